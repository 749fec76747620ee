"""How the kernels of lessons and tests are reached, and what share of the cores each gets."""

import os
import tempfile
import uuid

from traitlets import default


def threads_each(kernels):
    "Threads for each of so many kernels side by side, as `OMP_NUM_THREADS` takes it: more than there are cores would hold each other up."
    return str(max(1, (os.cpu_count() or 1) // kernels))


class OwnSockets:
    """Kernel managers whose kernels listen on socket files of their own.

    A TCP port that was free when it was chosen may be taken when the kernel binds it, and then the kernel dies or stays mute; with many
    kernels started side by side that happens.
    """

    @default('transport')
    def _own_transport(self):
        return 'tcp' if os.name == 'nt' else 'ipc'

    @default('ip')
    def _own_address(self):
        return os.path.join(tempfile.gettempdir(), f'kernel-{uuid.uuid4().hex[:12]}') if self.transport == 'ipc' else '127.0.0.1'
