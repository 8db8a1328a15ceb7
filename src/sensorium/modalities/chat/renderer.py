"""The program of the process that renders chat templates; run by ``rendering``, and imported by nobody.

A template is a program that a stranger wrote. Jinja's sandbox keeps it from the internals of Python. That it neither
computes nor grows without end is not left to Jinja: the system ends this process when one rendering has used
``SECONDS`` of processor time, and gives it no more than ``MEMORY`` bytes. It can open no further files to write to
and start no processes.

A line of JSON comes in for each conversation, and one goes out.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

SECONDS = 1.0
MEMORY = 512 * 1024**2
CHARACTERS = 1 << 24


class Refusal(TemplateError):
    """What a template says of a conversation that it does not take."""


class Excess(TemplateError):
    """A template writes more than it may."""


class Generation(Extension):
    """``{% generation %}``: what a model is to learn stands between the two marks of the environment."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("mark"), [], [], body).set_lineno(line)

    def mark(self, caller: Macro) -> str:
        begin, end = self.environment.marks  # type: ignore[attr-defined]
        return f"{begin}{caller()}{end}"


class Names(Namespace):
    """A namespace without names of Python's own."""

    def __setitem__(self, name: str, value: Any) -> None:
        check_name(name)
        super().__setitem__(name, value)


class Now:
    """The time at which a conversation is rendered, the same in all of its parts."""

    def __init__(self) -> None:
        self.time = datetime.now()

    def text(self, form: str) -> str:
        return self.time.strftime(form)


def check_name(name: str) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace may not have the name {name!r}")


def namespace(*args: Any, **kwargs: Any) -> Names:
    given = dict(*args, **kwargs)
    for name in given:
        check_name(name)
    return Names(given)


def refuse(message: Any = "") -> None:
    raise Refusal(str(message))


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes what would be HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment(now: Now) -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = to_json
    made.globals.update(raise_exception=refuse, strftime_now=now.text, namespace=namespace)
    return made


class Renderer:
    """Renders; keeps the templates that it has seen compiled."""

    def __init__(self) -> None:
        self.now = Now()
        self.environment = environment(self.now)
        self.compiled = lru_cache(64)(self.environment.from_string)

    def reply(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The conversation in ``asked`` rendered for each job: so many messages, and whether a prompt follows.

        A text with which the first begins is its length.
        """
        self.now.time = datetime.now()
        self.environment.marks = asked["marks"]  # type: ignore[attr-defined]
        try:
            with limited():
                template = self.compiled(asked["source"])
            texts: list[str] = []
            for count, prompt in asked["jobs"]:
                values = {
                    **asked["variables"],
                    "messages": asked["messages"][:count],
                    "add_generation_prompt": prompt,
                }
                with limited():
                    texts.append(render(template, values))
            whole, *parts = texts
            return {"texts": [whole, *(len(one) if whole.startswith(one) else one for one in parts)]}
        except Refusal as error:
            return {"refused": shortened(error)}
        except TemplateSyntaxError as error:
            return {"failed": f"line {error.lineno}: {shortened(error)}"}
        except Excess as error:
            return {"failed": str(error)}
        except MemoryError:
            return {"failed": f"it needs more than {MEMORY >> 20} MiB of memory"}
        except RecursionError:
            return {"failed": "it calls itself too often"}
        except Exception as error:  # noqa: BLE001  whatever a template gets wrong is told to whoever asked
            return {"failed": f"{type(error).__name__}: {shortened(error)}"}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def render(template: Template, values: dict[str, Any]) -> str:
    pieces, length = [], 0
    for piece in template.generate(values):
        length += len(piece)
        if length > CHARACTERS:
            raise Excess(f"it writes more than {CHARACTERS:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def shortened(error: Exception) -> str:
    return str(error)[:500]


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """The system ends this process when what is inside has used its time. An error leaves the clock running."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)


def confine() -> None:
    """Give up what rendering does not need."""
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # of these, macOS knows some by name only
            resource.setrlimit(limit, (most, most))


def main() -> None:
    renderer = Renderer()
    confine()
    for line in sys.stdin.buffer:
        answer = renderer.reply(json.loads(line))
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
