"""The command line of the end-to-end scripts: which sites they talk to, and for scripts of cases which case to run."""

import argparse

from sites import Site


def parse(parser):
    """Adds the sites to what a script understands. Returns all options, the source and the targets."""
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", action="append", required=True, metavar="NAME=URL")
    options = parser.parse_args()
    return options, Site("source", options.source), [Site(*target.split("=", 1)) for target in options.target]


def run_case(cases):
    """Runs the function of that name; an exception is a failure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    options, source, targets = parse(parser)
    cases[options.case](source, targets)
