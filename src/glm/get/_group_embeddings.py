from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._keys import GroupEmbeddingKeys

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def group_embeddings(adata: AnnData, groupby: str, *, key: str = "geneformer") -> pd.DataFrame:
    """Read the mean cell embeddings of groups as a table.

    Parameters
    ----------
    adata
        An object that ``glm.tl.embed(adata, groupby=...)`` has written to.
    groupby
        The column of ``obs`` that it was grouped by.
    key
        Name in the slots.

    Returns
    -------
    A DataFrame of float32, groups × width, indexed by the names of the groups. How many cells each
    is the mean of stands in ``adata.uns["X_<key>_by_<groupby>"]["n_cells_of_group"]``.

    Raises
    ------
    KeyError
        If there are no such means.

    Examples
    --------
    >>> import glm
    >>> adata = glm.datasets.toy_cells()
    >>> glm.tl.embed(adata, "geneformer-tiny", groupby="kind")
    >>> list(glm.get.group_embeddings(adata, "kind").index)
    ['a', 'b', 'c']
    """
    import pandas as pd

    record = GroupEmbeddingKeys(key, groupby).record
    if record not in adata.uns:
        raise KeyError(
            f"adata.uns has no {record!r}; call glm.tl.embed(adata, groupby={groupby!r}) first."
        )
    found = adata.uns[record]
    index = pd.Index([str(name) for name in np.asarray(found["groups"])], name=groupby)
    return pd.DataFrame(np.array(found["embeddings"]), index=index)
