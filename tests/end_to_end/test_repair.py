"""Records that were damaged: the same command trains them again, `compare` names them, `repair` sets them aside."""

import json

STUDY = ("losses=[mse,huber]", "seeds=2", "rates=[0]", "epochs=0.5", "workers=1", "evaluations=2")


def damage(folder, loss, name="test.parquet"):
    (path,) = folder.glob(f"results/regression/{loss}/*/{name}")
    path.write_text("x")
    return path


def test_what_is_damaged_is_trained_again_and_said(lossbench, tmp_path):
    assert lossbench(*STUDY).code == 0
    damage(tmp_path, "huber")
    again = lossbench(*STUDY)
    assert again.code == 0
    assert "test.parquet is damaged" in again.err
    assert "Trained 2 trials" in again.err
    assert lossbench("compare", "results").code == 0
    assert "damaged" not in lossbench(*STUDY).err


def test_a_part_that_was_removed_is_no_dead_end(lossbench, tmp_path):
    lossbench(*STUDY)
    damage(tmp_path, "mse").unlink()
    code, _, err = lossbench(*STUDY)
    assert code == 0
    assert "it is missing" in err
    assert lossbench("compare", "results").code == 0


def test_compare_goes_on_without_what_is_damaged(lossbench, tmp_path):
    lossbench("losses=[mse,huber,mae]", *STUDY[1:])
    path = damage(tmp_path, "huber", "curves.parquet")
    code, out, err = lossbench("compare", "results")
    assert code == 1
    assert "mse" in out
    assert "huber" not in out
    assert f"Left out: {path.relative_to(tmp_path)} is damaged" in err


def test_repair(lossbench, tmp_path):
    lossbench(*STUDY)
    assert lossbench("repair", "results") == (0, "2 of 2 folders of records are whole.\n", "")
    damage(tmp_path, "huber")
    code, out, err = lossbench("repair", "results")
    assert code == 1
    assert out.startswith("1 of 2 folders of records are whole.")
    assert "test.parquet is damaged" in err
    assert lossbench("repair", "results").code == 0
    damage(tmp_path, "mse")
    code, out, err = lossbench("repair", "results", "--json")
    assert (code, err) == (1, "")
    assert len(json.loads(out)["damaged"]) == 1


def test_repair_without_a_folder(lossbench):
    assert lossbench("repair").err == "lossbench: Write lossbench repair FOLDER ....\n"
    code, _, err = lossbench("repair", "nowhere")
    assert code == 2
    assert "There is no folder 'nowhere'" in err
