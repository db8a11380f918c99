"""What looks on inside the user's script. It has no other imports than Python's own, until the script imports torch.

It changes nothing that the script computes: it draws no random number, waits for no device and holds no tensor but
copies of losses. A fault in it switches it off with one line, and the script goes on.
"""

import os
import sys


def begin():
    """Wait until the script imports torch; then hook what is needed. Called once in a process, at its start."""
    from _traintop_inside.waiting import when_imported
    from _traintop_inside.wire import Wire

    wire = Wire(os.environ["TRAINTOP_WIRE"])

    def hook(torch):
        from _traintop_inside.looking import Looking

        try:
            Looking(torch, wire).begin()
        except Exception as error:
            wire.switch_off(error)

    if "torch" in sys.modules:  # another sitecustomize has imported it
        hook(sys.modules["torch"])
    else:
        when_imported("torch", hook)
