"""The command line. Heavy imports wait until a command needs them, so that --help is instant."""

from contrastive.cli.entry import main as main
