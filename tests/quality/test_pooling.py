import json

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.encoder import SectionEncoder
from megatron_snow.quality.pooling import choose_pooling
from megatron_snow.quality.settings import AnnotateSettings


@pytest.fixture
def stated(tmp_path):
    """A folder that states its pooling as sentence-transformers writes it."""

    def write(**modes):
        (tmp_path / "1_Pooling").mkdir(exist_ok=True)
        every = dict.fromkeys(("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"), False) | modes
        text = json.dumps({"word_embedding_dimension": 384, **{f"pooling_mode_{name}": value for name, value in every.items()}})
        (tmp_path / "1_Pooling" / "config.json").write_text(text)
        return str(tmp_path)

    return write


def test_the_encoder_says_how_it_pools(stated, tmp_path):
    assert choose_pooling("auto", "e", stated(mean_tokens=True)) == "mean"
    assert choose_pooling("auto", "e", stated(cls_token=True)) == "cls"
    assert choose_pooling("mean", "e", stated(cls_token=True)) == "mean"  # what is asked for goes first
    assert choose_pooling("auto", "e", str(tmp_path.parent)) == "cls"


def test_the_section_encoder_asks_it(small_encoder, tmp_path):
    import shutil

    shutil.copytree(small_encoder, tmp_path / "e")
    (tmp_path / "e" / "1_Pooling").mkdir()
    (tmp_path / "e" / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    encoders = [SectionEncoder(AnnotateSettings(encoder=str(tmp_path / "e"), pooling=pooling, section=32)) for pooling in ("auto", "mean", "cls")]
    vectors = [encoder.embed(encoder.sections(["def f(): pass"])[0]) for encoder in encoders]
    assert encoders[0].pooling == "mean" and (vectors[0] == vectors[1]).all() and (vectors[0] != vectors[2]).any()


def test_another_pooling_is_refused(stated):
    with pytest.raises(SnowError, match=r"e pools by pooling_mode_max_tokens .*set annotate\.pooling"):
        choose_pooling("auto", "e", stated(max_tokens=True))


def test_a_damaged_statement_is_refused(stated, tmp_path):
    folder = stated(cls_token=True)
    (tmp_path / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(SnowError, match="cannot be read"):
        choose_pooling("auto", "e", folder)
