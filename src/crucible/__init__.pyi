from crucible.app.api import Refusal as Refusal
from crucible.app.api import Run as Run
from crucible.app.api import load as load
from crucible.app.api import look as look
from crucible.app.api import runs as runs
from crucible.app.api import train as train
