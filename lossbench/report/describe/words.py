"""What losses take, in the words that people use."""

from lossbench.types import Encoding, Head, Space

TAKES: dict[Space, str] = {
    Space.VALUE: "standardised values",
    Space.ORIGINAL: "values in original units",
    Space.POSITIVE: "positive values",
    Space.LOG_RATE: "log rates",
    Space.MEAN_LOG_SCALE: "means and log scales",
    Space.ZERO_INFLATED: "log rates and logits of 0",
    Space.LOGIT: "logits",
    Space.PROBABILITY: "probabilities",
    Space.LOG_PROBABILITY: "log probabilities",
    Space.SCORE: "scores",
    Space.EMBEDDING: "embeddings",
    Space.BOX_XYXY: "box corners",
    Space.SEQUENCE_LOGIT: "logits per step",
    Space.NEXT_TOKEN: "next-token logits",
    Space.LIST_SCORE: "scores of a list",
    Space.PAIR_SCORE: "scores of a pair",
}
TARGETS: dict[Encoding, str] = {
    Encoding.VALUE: "standardised values",
    Encoding.ORIGINAL: "values in original units",
    Encoding.POSITIVE: "values from 0 on",
    Encoding.ABOVE_ZERO: "values above 0",
    Encoding.INDEX: "class indices",
    Encoding.ONE_HOT: "one-hot classes",
    Encoding.MULTI_HOT: "0 or 1 each",
    Encoding.SIGNED: "-1 or 1 each",
    Encoding.BOX_XYXY: "box corners",
    Encoding.TOKENS: "transcripts",
    Encoding.SEQUENCE: "the sequence itself",
    Encoding.RELEVANCE: "grades of a list",
    Encoding.ORDER: "1 or -1, which comes first",
    Encoding.TEACHER: "a teacher's logits and the class",
}
HEADS: dict[Head, str] = {
    Head.LINEAR: "linear",
    Head.MEAN_SCALE: "means and scales",
    Head.COSINE: "cosine",
    Head.EMBEDDING: "embedding",
}
