"""What the model asks of the devices it runs on: a divided batch, and rows of a tree chosen by a mask."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P


def shard_batch(batch):
    """Divide arrays with a leading axis B between the devices on the axis ``data``; values stay what they are.

    For use inside a function that `over_seeds` compiles. Does nothing elsewhere, and to an axis that those devices do
    not pad_to_batches.
    """
    mesh = jax.sharding.get_abstract_mesh()
    shares = mesh.shape.get("data", 1)

    def share(leaf):
        if shares == 1 or leaf.shape[0] % shares:
            return leaf
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, P("data")))

    return jax.tree.map(share, batch)


def tree_where(chosen, new, old):
    """Tree with the rows of ``new`` where ``chosen``, a mask of the leading axis, is True; elsewhere those of ``old``.

    Leaves of ``new`` may be scalars, which stand for every row.
    """

    def rows(new, old):
        return jnp.where(chosen.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

    return jax.tree.map(rows, new, old)
