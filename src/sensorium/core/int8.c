/* Products of few vectors with a matrix of 8-bit numbers, as fast as the matrix can be read. Built when it is first
   used, for the processor at hand, and run by the threads of torch: see kernels.py. */

#include <stdint.h>

static float one(const int8_t *w, const float *x, int64_t width) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < width; k++)
        sum += (float)w[k] * x[k];
    return sum;
}

/* Four vectors at once: each number of the matrix is converted once. */
static void four(const int8_t *w, const float *x, int64_t width, float *sums) {
    const float *x0 = x, *x1 = x + width, *x2 = x + 2 * width, *x3 = x + 3 * width;
    float a = 0, b = 0, c = 0, d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
    for (int64_t k = 0; k < width; k++) {
        float value = (float)w[k];
        a += value * x0[k];
        b += value * x1[k];
        c += value * x2[k];
        d += value * x3[k];
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}

/* y[count, height] = x[count, width] @ (w[height, width] * scale[height, 1]).T */
void int8_product(const int8_t *w, const float *scale, const float *x, float *y, int64_t count, int64_t height,
                  int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < height; row++) {
        const int8_t *numbers = w + row * width;
        int64_t i = 0;
        for (; i + 4 <= count; i += 4) {
            float sums[4];
            four(numbers, x + i * width, width, sums);
            for (int j = 0; j < 4; j++)
                y[(i + j) * height + row] = scale[row] * sums[j];
        }
        for (; i < count; i++)
            y[i * height + row] = scale[row] * one(numbers, x + i * width, width);
    }
}
