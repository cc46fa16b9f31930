import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seg_mia.errors import InputError
from seg_mia.models.heads import class_count, class_logits, final, heads, predicted, probabilities


def test_a_tensor_is_its_own_and_only_head() -> None:
    logits = torch.zeros(2, 3, 4, 5)
    assert final(logits) is logits
    assert heads(logits) == (logits,)


@pytest.mark.parametrize("kind", [tuple, list])
def test_the_first_of_several_heads_is_final(
    kind: type[tuple[torch.Tensor, ...]] | type[list[torch.Tensor]],
) -> None:
    first, second = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 8, 8)
    assert final(kind((first, second))) is first
    assert heads(kind((first, second))) == (first, second)


def test_no_head_is_refused() -> None:
    with pytest.raises(InputError, match="got an empty tuple"):
        final(())


@pytest.mark.parametrize("output", [{"out": torch.zeros(1, 1, 2, 2)}, None, "logits"])
def test_an_output_of_another_type_is_refused_by_its_name(output: object) -> None:
    with pytest.raises(TypeError, match=f"got {type(output).__name__}; wrap the network"):
        heads(output)  # type: ignore[arg-type]


def test_a_head_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="logits must be a tensor, got float"):
        heads((torch.zeros(1, 1, 2, 2), 1.0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "logits",
    [
        torch.zeros(2, 3, 3),
        torch.zeros(2, 3),
        torch.zeros(1, 0, 2, 2),
        torch.zeros(1, 1, 2, 2).long(),
    ],
)
def test_logits_of_another_shape_or_kind_are_refused(logits: torch.Tensor) -> None:
    for read in (heads, final, class_count, class_logits, probabilities, predicted):
        with pytest.raises(InputError, match="logits must be floats of shape"):
            read(logits)


def test_several_heads_where_one_is_wanted_are_refused() -> None:
    with pytest.raises(TypeError, match="through `final` first"):
        predicted((torch.zeros(1, 1, 2, 2),))  # type: ignore[arg-type]


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (2, 2), (5, 5)])
def test_class_count_and_class_logits_agree(channels: int, classes: int) -> None:
    logits = torch.randn(2, channels, 3, 4)
    assert class_count(logits) == classes
    assert class_logits(logits).shape == (2, classes, 3, 4)


def test_one_logit_stands_for_plus_and_minus_its_half() -> None:
    assert class_logits(torch.tensor([[[[6.0, -4.0]]]])).tolist() == [[[[-3.0, 2.0]], [[3.0, -2.0]]]]


@given(st.floats(-100, 100))
def test_the_pair_of_a_logit_has_its_sigmoid(z: float) -> None:
    logits = torch.full((1, 1, 1, 1), z, dtype=torch.float64)
    pair = probabilities(logits).flatten()
    torch.testing.assert_close(pair[1], logits.sigmoid().squeeze(), rtol=1e-12, atol=0)
    torch.testing.assert_close(pair.sum(), torch.ones((), dtype=torch.float64))


def test_probabilities_of_many_classes_are_their_softmax() -> None:
    logits = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(probabilities(logits), logits.exp() / logits.exp().sum(1, keepdim=True))


def test_predicted_takes_the_largest_and_the_lowest_class_of_a_tie() -> None:
    binary = torch.tensor([-1.0, 0.0, -0.0, 1e-45, 2.0]).view(1, 1, 1, 5)
    assert predicted(binary).tolist() == [[[0, 0, 0, 1, 1]]]
    three = torch.tensor([[1.0, 2.0, 0.0], [1.0, 5.0, 3.0], [1.0, 5.0, 4.0]]).view(1, 3, 1, 3)
    assert predicted(three).tolist() == [[[0, 1, 2]]]
    assert predicted(binary).dtype == torch.int64


def test_predicted_is_the_argmax_of_the_class_logits() -> None:
    for channels in (1, 2, 5):
        logits = torch.randn(3, channels, 6, 7)
        assert predicted(logits).equal(class_logits(logits).argmax(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_float_type_is_kept(dtype: torch.dtype) -> None:
    assert probabilities(torch.zeros(1, 1, 2, 2, dtype=dtype)).dtype == dtype
