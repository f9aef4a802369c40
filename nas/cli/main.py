"""`nas`: the list of commands, and what becomes of a mistake, an interrupt or a bug."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

import click

from nas import __version__
from nas.cli import clean, completion, device, examples, report, scale, search, ship, study, tables
from nas.cli.mistakes import usage
from nas.core.errors import NasError, unknown

DONE, BUG, MISTAKE, INTERRUPTED = 0, 1, 2, 130
_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class Commands(click.Group):
    """Commands in the order of a day's work; an unknown one gets the nearest names."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The names as `nas --help` lists them."""
        return list(self.commands)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of that name. Raises: NasError for another one."""
        found = super().get_command(context, name)
        if found is None:
            raise unknown("command", name, self.commands)
        return found


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option(
    "--print-completion",
    type=click.Choice(completion.SHELLS),
    is_eager=True,
    expose_value=False,
    callback=lambda context, option, shell: _print_completion(context, shell),
    help="Print what makes a shell complete nas, and exit.",
)
@click.pass_context
def commands(context: click.Context) -> None:
    """Search architecture and efficiency together, with numbers you can trust, and end in a file
    that runs.

    A first search:  nas search --space largekernel --device cpu --data digits
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _print_completion(context: click.Context, shell: str | None) -> None:
    if shell is not None and not context.resilient_parsing:
        click.echo(completion.script(shell, commands))
        context.exit()


for _command in (
    search.search, study.front, study.pick, study.show, study.retarget, ship.train, ship.export,
    ship.verify, scale.scale, report.report, report.dashboard, device.profile, device.spaces,
    device.devices, study.studies, clean.gc, tables.replay, tables.calibrate, device.doctor,
):  # fmt: skip
    _command.epilog = examples.epilog(_command.name)
    commands.add_command(_command)


def main() -> None:
    """The program: runs the command line's command and exits with its code."""
    signal.signal(signal.SIGTERM, _interrupt)
    if completion.VARIABLE in os.environ:
        sys.exit(completion.answer(commands))
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command and says with which code to exit; nothing but bugs leaves a traceback."""
    try:
        with commands.make_context("nas", list(arguments)) as context:
            commands.invoke(context)
        return DONE
    except click.exceptions.Exit as end:
        return end.exit_code
    except NasError as error:
        return _mistake(error.problem, error.hint)
    except click.UsageError as error:
        return _mistake(*usage(error, commands, arguments))
    except (KeyboardInterrupt, click.Abort):
        return _two_lines("interrupted", "nothing is lost; type it again", INTERRUPTED)
    except BrokenPipeError:
        # whoever read the answer has had enough; stdout must not fail again when Python closes it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        return _refused(error)
    except Exception:
        return _bug()


def _refused(error: OSError) -> int:
    """A disk that is full or closed to us is no bug; any other failure of the system is."""
    if error.errno not in _PLACE:
        return _bug()
    where = f" {error.filename!r}" if error.filename else ""
    return _mistake(
        f"cannot write{where}: {error.strerror}",
        "make room or name a place you may write to; what was recorded is kept",
    )


def _mistake(problem: str, hint: str) -> int:
    return _two_lines(problem, hint, MISTAKE)


def _bug() -> int:
    traceback.print_exc()
    click.echo("this is a bug of nas, not of yours: please report the lines above", err=True)
    return BUG


def _two_lines(problem: str, hint: str, code: int) -> int:
    """Exactly two lines, whatever names and messages of others are in them."""
    click.echo(f"{' '.join(problem.split())}\n  {' '.join(hint.split())}", err=True)
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a search as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
