"""What the losses on embeddings, lists, teachers and next tokens are to each other, and where they tend to."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lossbench.losses import (
    DIST,
    DKD,
    AdaFace,
    ApproxNDCG,
    ArcFace,
    AutoregressiveNLL,
    Circle,
    Contrastive,
    CosFace,
    CosineEmbedding,
    CrossEntropy,
    Distillation,
    HingeEmbedding,
    KLDivergence,
    LambdaRank,
    ListMLE,
    ListNet,
    LogitMatching,
    MagFace,
    MarginRanking,
    MultiSimilarity,
    NPair,
    NTXent,
    PairwiseHinge,
    RankNet,
    SoftMargin,
    SupCon,
    Triplet,
    Unlikelihood,
)

EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)
SEEDS, SPREADS = st.integers(0, 10_000), st.floats(0.1, 10)
B, E, C, T = 8, 5, 4, 6


def same(got, wanted, rtol=1e-9, atol=1e-11):
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def embeddings(seed, spread=1.0, n_classes=3):
    draw = generator(seed)
    x = spread * torch.randn(B, E, generator=draw, dtype=torch.float64)
    return x, torch.randint(n_classes, (B,), generator=draw)


def numbers(seed, *shape, spread=1.0):
    return spread * torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def grades(seed, *shape, n=4):
    return torch.randint(n, shape, generator=generator(seed)).double()


@EXAMPLES
@given(SEEDS, SPREADS)
def test_without_a_margin_all_heads_are_a_normalised_softmax(seed, spread):
    x, y = embeddings(seed, spread, C)
    weight = {"weight": numbers(seed + 1, C, E)}
    cosine = functional.cosine_similarity(x[:, None], weight["weight"][None], dim=-1)
    wanted = CrossEntropy()(16 * cosine, y)
    same(CosFace(margin=0)(x, y, parameters=weight), wanted)
    same(ArcFace(margin=0)(x, y, parameters=weight), wanted)
    state = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    same(AdaFace(margin=0)(x, y, parameters=weight, state=state)[0], wanted)
    same(MagFace(lower_margin=0, upper_margin=0, strength=0)(x, y, parameters=weight), wanted)


@EXAMPLES
@given(SEEDS, SPREADS)
def test_magface_with_one_margin_is_arcface(seed, spread):
    x, y = embeddings(seed, spread, C)
    weight = {"weight": numbers(seed + 1, C, E)}
    magface = MagFace(lower_margin=0.5, upper_margin=0.5, strength=0, easy_margin=False)
    same(magface(x, y, parameters=weight), ArcFace(margin=0.5)(x, y, parameters=weight))


@EXAMPLES
@given(SEEDS)
def test_adaface_is_cosface_at_the_mean_length_and_arcface_far_below_it(seed):
    x, y = embeddings(seed, n_classes=C)
    x = functional.normalize(x, dim=-1)
    weight = {"weight": numbers(seed + 1, C, E)}
    adaface = AdaFace(margin=0.3)
    at_mean, below = (torch.tensor([[mean, 0.5]], dtype=torch.float64) for mean in (1.0, 50.0))
    same(adaface(x, y, parameters=weight, state=at_mean)[0], CosFace(margin=0.3)(x, y, parameters=weight))
    # where the enlarged angle stays below pi, past which the two go on differently
    angle = functional.cosine_similarity(x, weight["weight"][y], dim=-1).acos()
    got, wanted = adaface(x, y, parameters=weight, state=below)[0], ArcFace(margin=0.3)(x, y, parameters=weight)
    kept = angle + 0.3 < math.pi
    same(got[kept], wanted[kept])


@EXAMPLES
@given(SEEDS, st.floats(0.05, 2))
def test_supcon_of_one_positive_each_is_nt_xent(seed, temperature):
    x, _ = embeddings(seed)
    y = torch.arange(B // 2).repeat(2)[torch.randperm(B, generator=generator(seed))]
    same(SupCon(temperature=temperature)(x, y), NTXent(temperature=temperature)(x, y))


@EXAMPLES
@given(SEEDS, st.floats(0.05, 2))
def test_supcon_is_not_below_nt_xent(seed, temperature):
    # its sum holds the other positives as well; compared where all anchors have as many
    x, _ = embeddings(seed)
    y = torch.arange(2).repeat(B // 2)
    assert SupCon(temperature=temperature)(x, y) >= NTXent(temperature=temperature)(x, y)


@EXAMPLES
@given(SEEDS)
def test_nt_xent_of_two_views_is_cross_entropy(seed):
    x, _ = embeddings(seed)
    cosine = functional.cosine_similarity(x[:, None], x[None], dim=-1) / 0.1
    logits = torch.where(torch.eye(B, dtype=torch.bool), -torch.inf, cosine)
    partner = torch.arange(B).roll(B // 2)
    same(NTXent()(x, torch.arange(B // 2).repeat(2)), CrossEntropy()(logits, partner).mean())


@EXAMPLES
@given(SEEDS)
def test_n_pair_of_directions_is_nt_xent(seed):
    x, y = embeddings(seed)
    same(NPair(l2=0)(functional.normalize(x, dim=-1), y), NTXent(temperature=1)(x, y))


@EXAMPLES
@given(SEEDS)
def test_soft_losses_tend_to_the_hardest_pair(seed):
    x, y = embeddings(seed)
    y[:4] = torch.tensor([0, 0, 1, 1])
    cosine = functional.cosine_similarity(x[:, None], x[None], dim=-1)
    alike = (y[:, None] == y) & ~torch.eye(B, dtype=torch.bool)
    hardest = torch.where(y[:, None] != y, cosine, -torch.inf).amax(1)
    farthest = torch.where(alike, cosine, torch.inf).amin(1)
    near, far = (0.5 - farthest).relu(), (hardest - 0.5).relu()
    same(MultiSimilarity(alpha=1e5, beta=1e5)(x, y), (near + far).mean(), rtol=1e-3, atol=1e-3)
    # without a margin each pair costs the square of how far it is from its optimum
    wide = Circle(gamma=1e5, margin=0.0)(x, y) / 1e5
    parts = torch.where(y[:, None] != y, cosine.relu() * cosine, -torch.inf).amax(1) + torch.where(
        alike, (1 - cosine).square(), -torch.inf
    ).amax(1)
    same(wide, parts[alike.any(1)].relu().mean(), rtol=1e-3, atol=1e-3)


@EXAMPLES
@given(SEEDS, SPREADS)
def test_pairs_by_distance(seed, spread):
    x, y = embeddings(seed, spread)
    distance = torch.cdist(x, x)[*torch.triu_indices(B, B, 1)]
    pairs = (y[:, None] == y)[*torch.triu_indices(B, B, 1)]
    margin = distance.max().item() + 1  # so that every pair of two classes costs
    same(HingeEmbedding(margin=margin)(x, y), torch.where(pairs, distance, margin - distance).mean())
    squares = torch.where(pairs, distance.square(), (margin - distance).square()) / 2
    same(Contrastive(margin=margin)(x, y), squares.mean())
    # of unit vectors, half the squared distance is one minus the cosine
    unit, one = functional.normalize(x, dim=-1), torch.zeros(B, dtype=torch.long)
    same(Contrastive()(unit, one), CosineEmbedding()(unit, one))


@EXAMPLES
@given(SEEDS, SPREADS, st.floats(0.1, 3))
def test_triplets(seed, spread, margin):
    x, y = embeddings(seed, spread)
    y[:4] = torch.tensor([0, 0, 1, 1])
    everyone, hardest = Triplet(margin=margin)(x, y), Triplet(margin=margin, mining="hard")(x, y)
    assert everyone >= 0
    # moved, turned and mirrored embeddings are as far apart
    turn = torch.linalg.qr(numbers(seed, E, E)).Q
    same(Triplet(margin=margin)(x @ turn + 7, y), everyone, rtol=1e-7)
    same(Triplet(margin=margin, mining="hard")(x @ turn + 7, y), hardest, rtol=1e-7)
    # on one point every triplet lacks the whole margin
    same(Triplet(margin=margin)(x * 0, y), torch.tensor(margin).double(), rtol=1e-6)
    same(Triplet(margin=margin, mining="hard")(x * 0, y), torch.tensor(margin).double(), rtol=1e-6)


@EXAMPLES
@given(SEEDS, SPREADS)
def test_of_two_items_lists_are_pairs(seed, spread):
    scores = numbers(seed, B, 2, spread=spread)
    target = torch.where(numbers(seed + 1, B) > 0, 1.0, -1.0).double()
    relevance = torch.stack([target, -target], -1).relu()
    lead = target.unsqueeze(-1) * (scores[:, :1] - scores[:, 1:])
    logistic = SoftMargin()(lead, torch.ones_like(lead))
    same(RankNet()(scores, relevance), logistic)
    same(ListMLE()(scores, relevance), logistic)
    same(PairwiseHinge(margin=0.7)(scores, relevance), MarginRanking(margin=0.7)(scores, target))
    # one swap in a list of two costs 1 - 1/log2(3) of NDCG
    same(LambdaRank()(scores, relevance), (1 - 1 / math.log2(3)) * logistic)


@EXAMPLES
@given(SEEDS, SPREADS)
def test_lists_whose_scores_are_their_grades(seed, spread):
    relevance = grades(seed, B, 5)
    entropy = torch.distributions.Categorical(logits=relevance).entropy()
    same(ListNet()(relevance, relevance), entropy)
    scores = numbers(seed, B, 5, spread=spread)
    assert (ListNet()(scores, relevance) >= entropy - 1e-12).all()
    # in order and far apart, nothing is left
    apart = relevance + torch.linspace(0, 0.5, 5)  # of equal scores each would have the mean of their ranks
    same(ApproxNDCG(temperature=1e-3)(apart, relevance), torch.zeros(B).double(), atol=1e-9)
    same(RankNet()(1e3 * relevance, relevance), torch.zeros(B).double())
    same(LambdaRank()(1e3 * relevance, relevance), torch.zeros(B).double())


@EXAMPLES
@given(SEEDS, SPREADS)
def test_listnet_of_one_relevant_item_tends_to_cross_entropy(seed, spread):
    scores = numbers(seed, B, 5, spread=spread)
    index = torch.randint(5, (B,), generator=generator(seed))
    relevance = 200.0 * functional.one_hot(index, 5).double()
    same(ListNet()(scores, relevance), CrossEntropy()(scores, index))


@EXAMPLES
@given(SEEDS, SPREADS)
def test_lambdarank_bounds_what_ndcg_lacks(seed, spread):
    scores, relevance = numbers(seed, B, 5, spread=spread), grades(seed, B, 5)
    lacks = ApproxNDCG(temperature=1e-9)(scores, relevance)
    # each pair in the wrong order costs at least log 2 times what swapping it gains
    assert (LambdaRank()(scores, relevance) >= math.log(2) * lacks - 1e-6).all()


def taught(seed, spread):
    z, t = numbers(seed, B, C, spread=spread), numbers(seed + 1, B, C, spread=spread)
    y = torch.randint(C, (B,), generator=generator(seed))
    return z, t, y, torch.stack([t, functional.one_hot(y, C).double()], 1)


@EXAMPLES
@given(SEEDS, SPREADS)
def test_distillation_at_its_ends(seed, spread):
    z, t, y, target = taught(seed, spread)
    same(Distillation(alpha=0)(z, target), CrossEntropy()(z, y))
    same(Distillation(alpha=1, temperature=1)(z, target), KLDivergence()(z.log_softmax(-1), t.softmax(-1)))
    # a teacher that knows the label and nothing else is the label
    sure = torch.stack([200 * target[:, 1], target[:, 1]], 1)
    same(Distillation(alpha=0.3, temperature=1)(z, sure), CrossEntropy()(z, y))


@EXAMPLES
@given(SEEDS)
def test_hot_distillation_is_logit_matching(seed):
    z, t, _, target = taught(seed, 1.0)
    centred = torch.stack([t - t.mean(-1, keepdim=True), target[:, 1]], 1)
    matched = LogitMatching()(z - z.mean(-1, keepdim=True), centred)
    same(2 * Distillation(alpha=1, temperature=1e4)(z, target), matched, rtol=1e-2, atol=1e-4)


@EXAMPLES
@given(SEEDS, SPREADS, st.floats(1, 5))
def test_decoupled_parts_add_up_to_distillation(seed, spread, temperature):
    # Zhao et al. 2022, equation 5: KL = TCKD + (1 - p_t) NCKD
    z, t, y, target = taught(seed, spread)
    sure = DKD(alpha=1, beta=0, temperature=temperature, label_weight=0)(z, target)
    rest = DKD(alpha=0, beta=1, temperature=temperature, label_weight=0)(z, target)
    p = (t / temperature).softmax(-1).gather(1, y[:, None])[:, 0]
    same(sure + (1 - p) * rest, Distillation(alpha=1, temperature=temperature)(z, target), rtol=1e-7)
    same(DKD(alpha=0, beta=0)(z, target), CrossEntropy()(z, y))


@EXAMPLES
@given(SEEDS)
def test_dist_without_a_teacher_is_cross_entropy(seed):
    z, _, y, target = taught(seed, 1.0)
    same(DIST(beta=0, gamma=0)(z, target), CrossEntropy()(z, y).mean())
    # a teacher whose probabilities are a straight line of the student's is as good as the same
    p = z.softmax(-1)
    softer = torch.stack([(0.3 * p + 0.7 / C).log(), target[:, 1]], 1)
    same(DIST()(z, softer), CrossEntropy()(z, y).mean(), rtol=1e-6)


@EXAMPLES
@given(SEEDS, SPREADS)
def test_next_tokens_are_cross_entropy_on_shifted_tokens(seed, spread):
    logits = numbers(seed, B, T, C, spread=spread)
    x = torch.randint(C, (B, T), generator=generator(seed))
    x[1, 3:], x[2, 1:] = -1, -1
    each = CrossEntropy(ignore_index=-1)(logits[:, :-1], x[:, 1:])
    whole = AutoregressiveNLL(per_token=False)(logits, x)
    same(whole, each.sum(-1))
    same(AutoregressiveNLL()(logits, x) * (x[:, 1:] >= 0).sum(-1), whole)
    same(Unlikelihood(alpha=0)(logits, x), AutoregressiveNLL()(logits, x))
    assert (Unlikelihood(alpha=1)(logits, x) >= AutoregressiveNLL()(logits, x)).all()
