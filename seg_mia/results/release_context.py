"""How a network is given out, as its owner declares, and the attacks that this makes possible."""

from typing import Literal

from seg_mia.results.base import Result

Access = Literal["internal", "api_logits", "api_masks", "open_weights"]

ACCESS: dict[Access, str] = {
    "internal": "internal use",
    "api_logits": "queries that return scores or probabilities",
    "api_masks": "queries that return masks",
    "open_weights": "published weights",
}
"""Kinds of access in words."""
SURFACE: dict[Access, str] = {
    "internal": "People of the organisation, with whatever access they have to outputs and weights.",
    "api_logits": "Anyone who may query: attacks on scores or probabilities, and every attack on labels.",
    "api_masks": "Anyone who may query: attacks on labels, and perturbations found by queries or surrogates.",
    "open_weights": "Everyone, without limit: attacks with weights and gradients, and all on outputs.",
}
"""The attack surface that a kind of access implies."""


class ReleaseContext(Result):
    """The release of the audited network, declared in the audit file; never inferred.

    Attributes:
        access: what is given out.
        queried_by: who may query the network; empty if not declared.
        rate_limit: how many queries are allowed; empty if not declared.
    """

    access: Access
    queried_by: str = ""
    rate_limit: str = ""

    @property
    def words(self) -> str:
        """Return the access in words."""
        return ACCESS[self.access]

    @property
    def surface(self) -> str:
        """Return the attack surface that the access implies."""
        return SURFACE[self.access]
