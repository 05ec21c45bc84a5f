"""Bad input: one clear message on standard error, exit code 2, and nothing on disk."""

import pytest

from lossbench.cli import main

REGRESSION = "Losses for regression: andrews, barron, barron_adaptive,"
SETTINGS = "Settings: batch_size, clip, corruption, corruptions, data, datasets, epochs,"
CASES = {
    # unknown names: the nearest, and the valid ones
    "task=regresion": [
        "Unknown task 'regresion'",
        "Did you mean 'regression'?",
        "ctc, embedding, multiclass, multilabel, regression",
    ],
    "loss=hubre": ["Unknown loss 'hubre'", "Did you mean 'huber'?", REGRESSION],
    "loss=": ["Unknown loss ''", REGRESSION],
    "loss=crossentropy": ["'cross_entropy'? (That is for another task.)", REGRESSION],
    "task=multiclass loss=cross_entropie": ["Losses for multiclass: adaface, aexp,", "Presets: label_smoothing."],
    "experiment=label_noise loss=hubre": ["Did you mean 'huber'?", "Losses: adaface,", " more."],
    "loss=label_smoothin": ["Did you mean 'label_smoothing'?"],
    "data=diabetis": ["Unknown data set 'diabetis'", "Did you mean 'diabetes'?", "diabetes, friedman1"],
    "task=multiclass loss=SparseCategoricalCrossentropy": ["Its name in lossbench is 'cross_entropy'. Losses for mul"],
    "task=binary loss=BCEWithLogitsLoss": ["Its name in lossbench is 'bce'."],
    "task=multiclass loss=CategoricalCrossentropy": ["Its name in lossbench is 'cross_entropy'. Losses for mul"],
    "loss=SparseCategoricalCrossentropy": ["Its name in lossbench is 'cross_entropy'. (That is for another task.)"],
    "model=mpl": ["Unknown model 'mpl'", "Did you mean 'mlp'?", "cnn, cnn_flat, cnn_max, linear, mlp"],
    "weighting=irsl": ["Unknown weighting 'irsl'", "Did you mean 'irls'?", "irls, none"],
    "corruption=heavy_tail": ["Unknown corruption", "Did you mean 'heavy_tails'?", "one_sided_outliers"],
    "metric=mea": ["Unknown metric 'mea'", "Did you mean 'mae'?", "Metrics for regression: mae,", "rmse"],
    "head=mean_scal": ["Unknown head", "Did you mean 'mean_scale'?", "linear, mean_scale"],
    "experiment=label_nois": ["Unknown experiment 'label_nois'", "Did you mean 'label_noise'?"],
    "losses=[mse,hubre]": ["Unknown loss 'hubre'", "Did you mean 'huber'?", REGRESSION],
    # unknown settings
    "epoch=3": ["Unknown setting 'epoch'", "Did you mean 'epochs'?", SETTINGS],
    "++epoch=3": ["Unknown setting 'epoch'", "Did you mean 'epochs'?", SETTINGS],
    "foo/bar=3": ["Unknown setting 'foo/bar'", SETTINGS],
    "loss=huber loss.dleta=2": ["Unknown setting 'loss.dleta'", "'loss.delta'?", "Fields of loss=huber: delta."],
    "loss=huber +loss.dleta=2": ["Unknown field of loss 'huber': 'dleta'", "Did you mean 'delta'?"],
    "loss.delta=2": ["Unknown setting 'loss.delta'", "Fields of loss=mse: none."],
    "losses=[{huber:{dleta:2}}]": ["Unknown field of loss 'huber': 'dleta'", "Did you mean 'delta'?"],
    "model.wdth=3": ["Unknown setting 'model.wdth'", "'model.width'?", "Fields of model=mlp: depth, width."],
    "optimizer.nam=sgd": ["Unknown setting 'optimizer.nam'", "Did you mean 'optimizer.name'?", "momentum, name,"],
    "+optimizer.nam=sgd": ["Unknown setting 'optimizer.nam'", "Did you mean 'optimizer.name'?"],
    # wrong types
    "loss=huber loss.delta=abc": ["loss.delta must be a number. Got 'abc' instead."],
    "loss=huber loss.delta=null": ["loss.delta must be a value, not null."],
    "epochs=many": ["epochs must be a number. Got 'many' instead."],
    "epochs=${nosuch}": ["epochs:", "nosuch", "not found"],
    "batch_size=1.5": ["batch_size must be a whole number. Got 1.5 instead."],
    "workers=maybe": ["workers must be a whole number. Got 'maybe' instead."],
    "progress=false": ["Unknown setting 'progress'"],
    "rates=0.5": ["rates must be a list, as in 'rates=[0.5]'."],
    "rates=[a]": ["rates[0] must be a number. Got 'a' instead."],
    "losses=mse": ["losses must be a list, as in 'losses=[mse]', or losses=all. Got 'mse' instead."],
    "weightings=irls": ["weightings must be a list, as in 'weightings=[irls]', or weightings=all."],
    "corruptions=[]": ["corruptions must name at least one choice, for example 'corruptions=["],
    "lr=abc": ["lr must be a number, or a list of numbers. Got 'abc' instead."],
    "lr=[0.1,abc]": ["lr must be a number, or a list of numbers. Got 'abc' instead."],
    "lr=[]": ["lr must be a number, or a list with at least one number. Got [] instead."],
    "optimizer.warmup=[0,2]": ["'optimizer.warmup'", "range [0, 1]", "Got 2.0 instead"],
    "optimizer.weight_decay=[-1]": ["'optimizer.weight_decay'", "range [0, inf)"],
    "losses=[3]": ["loss must be a name, or a mapping with a name and fields. Got 3 instead."],
    "seeds=abc": ["seeds must be a number of seeds, or a list such as [3,7]. Got 'abc' instead."],
    "seeds=[1,a]": ["seeds must be", "[1, 'a']"],
    "loss=null": ["loss must be one name."],
    "losses=[mse] loss=huber": ["'loss=huber' would not count", "'losses=[...]'", "losses=null"],
    "losses=[mse] loss.delta=2 loss=huber": ["would not count", "losses=null"],
    "corruptions=[none] corruption=none": ["'corruption=none' would not count"],
    "experiment=label_noise loss=huber": ["'loss=huber' would not count", "losses=null"],
    "loss=[mse,huber]": ["loss must be one name.", "'losses=[...]'"],
    "corruption=[none]": ["corruption must be one name.", "'corruptions=[...]'"],
    "optimizer=3": ["optimizer must be set by its fields: ", "optimizer.name="],
    # out of range
    "lr=-1": ["'lr'", "range (0, inf)", "Got -1.0 instead"],
    "rates=[1.5]": ["'rates'", "range [0, 1]", "Got 1.5 instead"],
    "rates=[]": ["rates must hold at least one corruption rate, for example 'rates=[0,0.2]'. Got [] instead."],
    "losses=[]": ["losses must name at least one choice, for example 'losses=["],
    "seeds=0": ["seeds must be a number from 1", "Got 0 instead"],
    "seeds=[0,0]": ["seeds must differ from each other: 0 is listed twice. Got [0, 0] instead."],
    "seeds=-3": ["seeds must be a number from 1", "Got -3 instead"],
    "epochs=0": ["'epochs'", "Got 0.0 instead"],
    "batch_size=0": ["'batch_size'", "Got 0 instead"],
    "workers=0": ["'workers'", "Got 0 instead"],
    "evaluations=0": ["'evaluations'", "Got 0 instead"],
    "split.test=1": ["'split.test'", "Got 1.0 instead"],
    "clip.threshold=0": ["'clip.threshold'", "Got 0.0 instead"],
    "loss=huber loss.delta=-1": ["'delta' parameter of Huber", "range (0, inf)", "Got -1.0 instead"],
    "clip.mode=nrom": ["clip.mode 'nrom'", "Did you mean 'norm'?", "none, norm, per_tensor, value"],
    "optimizer.name=adamm": ["optimizer.name 'adamm'", "Did you mean 'adamw'?", "adamw, sgd"],
    "optimizer.schedule=cosin": ["Did you mean 'cosine'?", "constant, cosine"],
    "precision=16": ["precision '16'", "32, 64, bf16"],
    "validation=clear": ["Did you mean 'clean'?", "clean, corrupted"],
    # parts that do not fit
    "task=binary loss=huber": ["'huber' is for regression, not for task=binary", "Losses for binary: auc_margin, bce,"],
    "losses=[bce,cross_entropy]": ["'bce' is for binary and multilabel, not for task=regression", REGRESSION],
    "data=digits": ["'digits' is for multiclass, not for task=regression", "diabetes, friedman1"],
    "metric=accuracy": [
        "The metric 'accuracy' is for binary and multiclass, not for task=regression",
        "Metrics for regression: mae,",
    ],
    "weighting=classes": ["'classes' is for binary and multiclass, not for task=regression", "irls, none"],
    "experiment=label_noise task=regression": ["'cross_entropy' is for multiclass, not for task=regression"],
    "task=binary losses=[dice] weightings=[balanced]": ["balanced weighs single examples", "dice"],
    "task=binary loss=dice weighting=balanced": ["balanced weighs single examples", "dice", "weighting=none"],
    "task=multilabel loss=zlpr weighting=pos_weight": ["pos_weight weighs each label", "zlpr is no mean", "as bce"],
    "task=multiclass loss=arcface weighting=focal": ["focal looks at scores", "arcface trains an embedding"],
    "task=multiclass weighting=pos_weight": ["'pos_weight' is for binary and multilabel, not for task=multiclass"],
    "weighting=deferred": ["weighting=deferred is for binary and multiclass, not for task=regression"],
    "weighting=sample": ["weighting=sample needs data that come with weights, and data=diabetes does not"],
    "loss=gaussian_nll head=linear": ["loss=gaussian_nll needs head=mean_scale"],
    # values that are missing or lead nowhere
    "task=binary weighting=classes": ["weighting=classes needs weighting.weights=<value>."],
    "loss=external": ["loss=external needs loss.target=<value>."],
    "losses=[external]": ["'external' needs a value for target"],
    "loss=external loss.target=nosuch.losses.Focal": ["there is no package 'nosuch'"],
    "loss=external loss.target=torch.nn.HuberLos": ["torch.nn has no 'HuberLos'", "Did you mean 'HuberLoss'?"],
    "loss=external loss.target=torch.nn.HuberLoss loss.params.dleta=2": ["no parameter 'dleta'", "'delta'?"],
    # what cannot be read
    "losses=[mse": ["Cannot read 'losses=[mse'", "'name=[a,b]'"],
    "=3": ["Cannot read '=3'", "no name"],
    "epochs=1 junk": ["Cannot read 'junk'", "name=value"],
    "~seeds": ["~seeds: a setting cannot be removed"],
    "epochs=2 epochs=3": ["epochs is set 2 times: epochs=2, epochs=3."],
    "loss=mse loss=huber": ["loss is set 2 times"],
    "epochs=2 +epochs=3": ["epochs is set 2 times"],
    "loss=huber,mse": ["several values", "'losses=[huber,mse]'", "-m"],
    "seeds=1,2": ["several values", "'seeds=[1,2]'", "-m"],
    "model=mlp,linear": ["several values", "add -m"],
    "lr=0.1,0.2": ["several values", "'lr=[0.1,0.2]'", "-m"],
    "weighting=none,irls": ["several values", "'weightings=[none,irls]'", "-m"],
    # options and verbs
    "--nosuch": ["Unrecognized arguments: --nosuch", "--help"],
    "--cfg": ["expected one argument"],
    "--cfg foo": ["invalid choice: 'foo'", "job"],
    "--cfg job -m": ["Only one of"],
    "--cfg job loss=hubre": ["Unknown loss 'hubre'"],
    "--config-dir /nosuch": ["/nosuch", "not found"],
    "losess": [
        "Unknown command 'losess'",
        "Did you mean 'losses'?",
        "corruptions, datasets, describe, explain, losses, metrics, models, plot, plugins, repair,",
    ],
    "regression": ["Unknown command 'regression'. Did you mean lossbench task=regression? Commands: check, compare,"],
    "hubre": ["Unknown command 'hubre'. Did you mean lossbench loss=huber?"],
    "losses regresion": ["Unknown task 'regresion'", "Did you mean 'regression'?"],
    "losses regression more": ["takes at most one task", "'regression more'"],
    "losses loss=huber": ["Unknown task 'loss=huber'"],
    # one bad job in a sweep is found before any of them runs
    "-m loss=mse,hubre": ["Unknown loss 'hubre'", "Did you mean 'huber'?"],
    "-m loss=mse,mse epoch=1": ["Did you mean 'epochs'?"],
    "-m loss=mse,huber lr=-1": ["'lr'", "range (0, inf)", "Got -1.0 instead"],
    "-m loss=bce": ["'bce' is for binary and multilabel, not for task=regression"],
}


@pytest.mark.parametrize("line", CASES)
def test_one_message_exit_code_2_and_nothing_written(lossbench, tmp_path, line):
    code, out, err = lossbench(*line.split())
    assert code == 2
    assert out == ""
    assert err.startswith("lossbench: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "_default" not in err  # nodes of ours that nobody should type
    assert [part for part in CASES[line] if part not in err] == [], err
    assert list(tmp_path.iterdir()) == []


UNTRAINABLE = {
    "model=cnn": ["cnn takes images", "model=mlp takes any"],
    "task=binary weighting=classes weighting.weights={malignan:2}": [
        "Unknown class 'malignan'",
        "Did you mean 'malignant'?",
    ],
    "task=binary weighting=classes weighting.weights=[1,2,3]": ["one weight for each of 2 classes"],
}


@pytest.mark.parametrize("line", UNTRAINABLE)
def test_what_only_training_finds_is_told_and_no_table_of_dashes_is_shown(lossbench, line):
    code, out, err = lossbench(*line.split(), "seeds=1", "rates=[0]")
    assert (code, out) == (1, "")
    assert [part for part in UNTRAINABLE[line] if part not in err] == [], err
    assert "Traceback" not in err


@pytest.mark.parametrize("line", ["loss=hubre", "lr=-1", "--nosuch", "losess"])
def test_debug_raises_for_the_traceback(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=r"lr|nosuch|hubre|losess"):
        main([*line.split(), "--debug"])


def test_output_below_a_file(lossbench, tmp_path):
    (tmp_path / "file").write_text("here")
    code, _, err = lossbench("output=file/results")
    assert code == 2
    assert err.startswith("lossbench: Cannot write file/results/")
    assert err.endswith("Choose another folder with output=.\n")
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_bug_is_one_line_and_exit_code_3(lossbench, monkeypatch, tmp_path):
    def broken(*_):
        raise RuntimeError("the first line\nthe second")

    monkeypatch.setattr("lossbench.study.api.run_with_boards", broken)
    code, out, err = lossbench("loss=mse")
    assert (code, out) == (3, "")
    assert err == "lossbench: RuntimeError: the first line (--debug shows where)\n"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError):
        main(["loss=mse", "--debug"])
