"""Parts from outside of the package, and reaching into configs by name."""

import functools
import importlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pydantic
import pytest

import contrastive
from contrastive import config
from contrastive.errors import ConfigError
from contrastive.losses import InfoNCE, LossInputs, SpreadOut
from contrastive.parts import foreign_parts, snake_case
from contrastive.settings import differences

MODULE = '''
import contrastive


class Softplus(contrastive.losses.Loss):
    """Softplus of the margin."""

    margin: float = 0.1

    def __call__(self, inputs):
        return inputs.temperature + self.margin


class Lines(contrastive.sources.Source):
    """Numbers as rows."""

    count: int = 3

    def read(self):
        return [{"query": f"q{n}", "pos": [f"p{n}"]} for n in range(self.count)]


class Width(contrastive.tasks.Evaluator):
    """The width of embeddings."""

    factor: float = 1.0

    def evaluate(self, encoder, data):
        return {"width": self.factor * encoder.width}


class Names(contrastive.models.Model):
    """An encoder."""

    width: int = 4

    def build(self, vocab_size):
        return None


def doubled(inputs):
    return 2 * inputs.temperature
'''


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A module from elsewhere whose name no other test uses."""
    name = f"elsewhere_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(name)
    sys.modules.pop(name)


def experiment(foreign):
    return config.Experiment(
        name="t",
        batch_size=2,
        data=config.Data(train=foreign.Lines(count=5)),
        model=foreign.Names(width=8),
        loss=config.Objective(function=InfoNCE() + 0.5 * foreign.Softplus(margin=0.3)),
        evaluators={"wide": foreign.Width(factor=2.0)},
        select_best="wide/width",
    )


def kind(foreign, name):
    return f"{foreign.__name__}:{name}"


def test_a_part_from_elsewhere_is_accepted_and_named_by_module_and_class(foreign):
    made = experiment(foreign)
    dumped = made.model_dump(mode="json")
    assert dumped["data"]["train"] == {"kind": kind(foreign, "Lines"), "count": 5}
    assert dumped["model"] == {"kind": kind(foreign, "Names"), "width": 8}
    assert dumped["evaluators"] == {"wide": {"kind": kind(foreign, "Width"), "factor": 2.0}}
    terms = dumped["loss"]["function"]["terms"]
    assert terms[1] == {"loss": {"kind": kind(foreign, "Softplus"), "margin": 0.3}, "weight": 0.5}
    assert terms[0]["loss"]["kind"] == "info_nce"
    assert foreign.Softplus.short_name() == "softplus"
    assert not foreign.Softplus.is_built_in()
    assert foreign.Softplus.base() is contrastive.losses.Loss
    assert contrastive.losses.Loss.known()[kind(foreign, "Softplus")] is foreign.Softplus
    assert "Softplus" not in dir(config)


def test_an_imported_part_is_found_again_whatever_becomes_of_others(foreign):
    made = experiment(foreign)
    for policy in ("refuse", "inert", "import"):
        with foreign_parts(policy):
            found = config.Experiment.model_validate_json(made.model_dump_json())
        assert found == made
        assert type(found.data.train) is foreign.Lines
        assert type(found.at("loss.function.terms.1.loss")) is foreign.Softplus


IN_ANOTHER_PROCESS = """
import sys
import pydantic
from contrastive import config
from contrastive.parts import foreign_parts

def read(policy):
    with foreign_parts(policy):
        return config.Experiment.model_validate_json(sys.argv[1])

module = sys.argv[2]
try:
    read("refuse")
except pydantic.ValidationError as error:
    words = f"data.train is of kind '{module}:Lines', which was not imported; import {module} first"
    assert words in str(error), error
else:
    raise AssertionError("accepted")
inert = read("inert")
assert module not in sys.modules
assert inert.data.train.is_inert
assert inert.data.train.short_name() == "lines"
assert inert.at("loss.function.terms.1.loss.margin") == 0.3
assert inert.at("evaluators.wide.factor") == 2.0
assert inert.model_dump_json() == sys.argv[1]
imported = read("import")
assert module in sys.modules
assert not imported.data.train.is_inert
assert len(imported.data.train.read()) == 5
assert imported.model_dump_json() == sys.argv[1]
"""


def test_another_process_imports_parts_or_keeps_their_fields(foreign, tmp_path):
    text = experiment(foreign).model_dump_json()
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, text, foreign.__name__]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def stored(kind, **fields):
    return {"name": "t", "data": {"train": {"kind": kind, **fields}}}


def test_an_inert_part_does_nothing():
    with foreign_parts("inert"):
        read = config.Experiment(
            **stored("nowhere.at_all:Rows", path="x", deep={"a": [1]}),
            model={"kind": "nowhere.at_all:Outer.Words", "width": 3},
            loss={
                "function": {"kind": "nowhere.at_all:Mine", "beta": 2.0},
                "policy": {"kind": "nowhere.at_all:Heat"},
            },
            evaluators={"e": {"kind": "nowhere.at_all:Score"}},
            writers=[{"kind": "nowhere.at_all:Paper"}],
        )
    assert read.data.train.path == "x"
    assert read.data.train.deep == {"a": [1]}
    assert read.model.kind == "nowhere.at_all:Outer.Words"
    assert read.model.short_name() == "words"
    assert "mine weights negatives" in read.loss.function.why_not_softmax()
    refused = {
        "Rows": lambda: read.data.train.read(),
        "Words": lambda: read.model.build(9),
        "Mine": lambda: read.loss.function(LossInputs(np.eye(2), np.eye(2), 1.0)),
        "Heat": lambda: read.loss.policy.temperature({}, 0, initial=0.1, steps=1),
        "Score": lambda: read.evaluators["e"].evaluate(None, None),
        "Paper": lambda: read.writers[0].open(None, "t", 0),
    }
    for name, use in refused.items():
        with pytest.raises(ConfigError, match=rf"at_all:.*{name} is not .* import nowhere.at_all "):
            use()
    with foreign_parts("inert"):
        again = config.Experiment.model_validate_json(read.model_dump_json())
    assert differences(read, again) == []
    changed = read.replace(**{"loss.function.beta": 3.0})
    assert differences(read, changed) == ["loss.function.beta: 2.0 -> 3.0"]
    for base in config.BASES:  # nothing can choose it
        assert not [kind for kind in base.known() if "nowhere" in kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nowhere.at_all:Rows", ("source nowhere.at_all:Rows needs the module", "PYTHONPATH")),
        ("json:Rows", ("the module 'json' does not define a Source named 'Rows'",)),
        ("rows", ("is of kind 'rows'; the known kinds of Source are ", "jsonl", "pydoc")),
    ],
)
def test_what_cannot_be_imported_is_refused_by_name(kind, words):
    with foreign_parts("import"), pytest.raises(ConfigError) as error:
        config.Experiment(**stored(kind))
    assert all(word in str(error.value) for word in words)


def test_foreign_parts_are_refused_again_afterwards(foreign):
    text = experiment(foreign).model_dump_json().replace(foreign.__name__, "nowhere")
    with foreign_parts("inert"):
        config.Experiment.model_validate_json(text)
    with pytest.raises(pydantic.ValidationError, match="was not imported"):
        config.Experiment.model_validate_json(text)
    with pytest.raises(ConfigError, match="was not imported"):
        config.Data(train={"kind": "nowhere:Rows"})


def test_a_function_is_a_loss_that_is_named_in_json(foreign):
    made = config.Objective(function=foreign.doubled)
    assert config.Objective(function=foreign.doubled).function == made.function
    text = made.model_dump_json()
    assert f'"function":"{foreign.__name__}:doubled"' in text
    inputs = LossInputs(np.eye(2), np.eye(2), 0.25)
    for policy in ("refuse", "inert", "import"):
        with foreign_parts(policy):
            found = config.Objective.model_validate_json(text)
        assert found == made
        assert found.function(inputs) == 0.5
    text = text.replace(foreign.__name__, "nowhere")
    with foreign_parts("inert"):
        inert = config.Objective.model_validate_json(text)
    assert inert.model_dump_json() == text
    with pytest.raises(ConfigError, match=r"nowhere:doubled is not .* import nowhere to use it"):
        inert.function(inputs)
    for policy, words in (("refuse", ", which was not imported"), ("import", " cannot be")):
        match = f"nowhere:doubled'?{words}"
        with foreign_parts(policy), pytest.raises(ValueError, match=match):
            config.Objective.model_validate_json(text)


def test_of_two_classes_of_one_kind_the_newer_counts(foreign):
    older = foreign.Lines
    importlib.reload(foreign)
    newer = foreign.Lines
    assert newer is not older
    assert contrastive.sources.Source.known()[kind(foreign, "Lines")] is newer
    read = config.Data.model_validate({"train": {"kind": kind(foreign, "Lines"), "count": 2}})
    assert type(read.train) is newer
    config.Data(train=older())  # which is a source nevertheless


def made():
    return config.Experiment(
        name="t",
        loss=config.Objective(function=InfoNCE() + 0.5 * SpreadOut()),
        evaluators={"sts": config.STS("a.jsonl"), "other": config.STS("b.jsonl")},
        data=config.Data(
            train=config.Mixture(
                parts=(
                    config.MixturePart(source=config.Jsonl(path="a")),
                    config.MixturePart(source=config.Jsonl(path="b"), weight=None),
                )
            )
        ),
    )


DEEP = {
    "steps": (1000, 7),
    "loss.temperature": (0.02, 0.5),
    "loss.function.terms.1.weight": (0.5, 2.0),
    "loss.function.terms.0.loss.margin": (0.0, 0.25),
    "evaluators.other.data": ("b.jsonl", "c.jsonl"),
    "data.train.parts.1.source.path": ("b", ("x", "y")),
}


@pytest.mark.parametrize("path", DEEP)
def test_values_are_looked_up_and_replaced_through_dicts_and_tuples(path):
    before, (old, new) = made(), DEEP[path]
    assert before.at(path) == old
    after = before.replace(**{path: new})
    assert after.at(path) == new
    assert before.at(path) == old
    assert type(after) is config.Experiment
    unchanged = set(DEEP) - {path}
    assert all(after.at(other) == before.at(other) for other in unchanged)
    assert after.replace(**{path: old}) == before
    assert before.replace_unvalidated({path: new}) == after


def test_several_values_are_replaced_at_once():
    after = made().replace(**{path: new for path, (_, new) in DEEP.items()})
    assert {path: after.at(path) for path in DEEP} == {p: new for p, (_, new) in DEEP.items()}


def test_whole_entries_are_replaced_and_added():
    after = made().replace(**{"evaluators.sts": config.Clustering("x.jsonl")})
    assert isinstance(after.evaluators["sts"], config.Clustering)
    assert list(after.evaluators) == ["sts", "other"]
    added = made().replace(**{"evaluators.third": config.STS("x.jsonl")})
    assert list(added.evaluators) == ["sts", "other", "third"]


def test_unvalidated_values_may_be_arrays():
    array = jnp.asarray(-1.0)
    after = made().replace_unvalidated({"loss.function.terms.1.weight": array, "steps": array})
    assert after.loss.function.terms[1].weight is array
    assert after.steps is array
    assert isinstance(after.loss.function, contrastive.losses.Sum)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nothing", ("Experiment has no field 'nothing'", "batch_size, ")),
        ("loss.nothing", ("Objective has no field 'nothing'", "temperature")),
        ("loss.function.terms.2.weight", ("has no field '2'",)),
        ("loss.function.terms.last.weight", ("has no field 'last'",)),
        ("evaluators.none.data", ("has no field 'none'",)),
        ("steps.more", ("has no field 'more'",)),
    ],
)
def test_a_path_to_nothing_is_refused(path, words):
    for use in (made().at, lambda path: made().replace(**{path: 1})):
        with pytest.raises(ValueError, match=r"has no field|is not a field") as error:
            use(path)
        assert all(word in str(error.value) for word in words) or "is not a field" in str(
            error.value
        )


def test_replaced_values_are_validated():
    for path, value in {
        "loss.temperature": -1.0,
        "loss.function.terms.1.weight": 0.0,
        "steps": "many",
        "evaluators.other.data": 3,
    }.items():
        with pytest.raises(ConfigError, match=f"{path.rpartition('.')[2]} is {value!r}"):
            made().replace(**{path: value})


@pytest.mark.parametrize(
    ("build", "new"),
    [
        (lambda: config.Experiment(name="t", metric="MAP"), 'select_best="EVALUATOR/METRIC"'),
        (lambda: config.Experiment(name="t", examine_steps=5), "detail_steps"),
        (lambda: config.Data(validation=config.Pydoc()), 'evaluators={"validation": Retrieval('),
        (lambda: config.Data(test=config.Pydoc()), 'final_evaluators={"test": Retrieval('),
        (lambda: config.Mixture(one_source_batches=False), "homogeneous_batches"),
        (lambda: config.Objective(widths=(4,)), "matryoshka_dims"),
        (lambda: config.Objective(width_weights=(1.0,)), "matryoshka_weights"),
        (lambda: config.Objective(shards=2), "negative_groups"),
        (lambda: config.Objective(distill=None), "DistillKL(teacher_temperature=...)"),
        (lambda: config.Objective(spread_out=1.0), "1.0 * SpreadOut()"),
        (lambda: made().replace(**{"loss.shards": 2}), "negative_groups"),
    ],
)
def test_old_names_are_refused_with_their_new_ones(build, new):
    with pytest.raises(ConfigError, match="is now called") as error:
        build()
    assert new in str(error.value)


def test_old_classes_are_named_too():
    with pytest.raises(AttributeError, match=r"config\.Part is now called MixturePart"):
        config.Part  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        config.Nothing  # noqa: B018


def test_every_problem_has_a_line_and_names_its_field():
    with pytest.raises(ConfigError) as error:
        config.Objective(temperature=0, tile=-1, nothing=3)
    lines = str(error.value).splitlines()
    assert [line.split()[0] for line in lines] == ["temperature", "tile", "nothing"]
    with pytest.raises(ConfigError, match=r"^name is required$"):
        config.Experiment()
    with pytest.raises(ConfigError) as error:
        config.Experiment(name="t", loss={"temperature": -2.0})
    assert error.value.field == "loss.temperature"


def test_kinds_are_snake_case():
    names = {"InfoNCE": "info_nce", "DistillM3": "distill_m3", "ABTest": "ab_test"}
    assert {name: snake_case(name) for name in names} == names


def test_every_base_has_parts_and_each_says_what_it_is():
    for base in config.BASES:
        assert base.abstract
        assert base.known(), base
        for name, part in base.known().items():
            if part.is_built_in():
                assert name == part.kind
                assert getattr(config, part.__name__) is part
            assert part.summary(), part


def test_of_two_classes_with_one_name_the_newer_is_known():
    def define(base):
        return type("Twice", (base,), {"__doc__": "Defined twice.", "__module__": __name__})

    for base in (config.Triplet, config.Decoupled, config.Triplet):
        newest = define(base)
        assert config.BASES[0].known()[newest.kind] is newest


def test_a_function_without_an_importable_name_is_refused():
    for function in (functools.partial(sum, start=1), lambda inputs: 0.0):
        with pytest.raises(ConfigError, match="cannot import by its name"):
            config.Objective(function=function)
