"""The command line. Heavy imports are deferred until a command needs them, to keep --help fast."""

from contrastive.cli.main import main as main
