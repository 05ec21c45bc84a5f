"""The heads that losses ask for, in the words that people use."""

from lossbench.types import Head

HEADS: dict[Head, str] = {
    Head.LINEAR: "linear",
    Head.MEAN_SCALE: "means and scales",
    Head.COSINE: "cosine",
    Head.EMBEDDING: "embedding",
}
