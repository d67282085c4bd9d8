"""What pipeline stages send each other: for how long, and what it takes of kernels beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import collectives
from models.layout import strides
from topologies.collective import Collective

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.layout import Array
    from models.prepared import Prepared
    from models.profile import Profile
    from topologies.fabric import Fabric


class StageSends:
    """Sends of one micro-batch's activations, or of their gradients, to the next stage.

    Software may send a share from every rank of tensor parallelism, which the next stage's ranks
    gather (Narayanan et al., arXiv:2104.04473 section 4.1).

    Parameters
    ----------
    prepared, profile, fabric
        Layouts, parameters of the device, links.
    """

    def __init__(self, prepared: Prepared, profile: Profile, fabric: Fabric) -> None:
        self.prepared, self.meshes = prepared, prepared.meshes
        self.profile, self.fabric = profile, fabric
        self.links = fabric.links((self.meshes.pp * 1.0, strides(self.meshes).pp))
        self.cost = collectives.cost(Collective.SHIFT, self.links, profile)
        self.steal = collectives.steal(self.links, profile)

    def seconds(self, shape: NDArray[np.intp], mesh: NDArray[np.intp]) -> Array:
        """Return how long one takes, for shapes of work on meshes, given by their indices."""
        prepared = self.prepared
        sent = self.cost.seconds(prepared.sent_bytes()[shape], mesh)
        if not prepared.workload.runs_on.scatters_sends:
            return sent
        inside = self.fabric.links((self.meshes.tp * 1.0, strides(self.meshes).tp))
        gathered = collectives.cost(Collective.ALL_GATHER, inside, self.profile)
        whole = prepared.layers[0].input_bytes[shape]
        scattered = prepared.sent_bytes()[shape] < whole
        return sent + gathered.seconds(whole, mesh) * scattered
