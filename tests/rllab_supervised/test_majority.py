import torch
from rllab_supervised.majority import Majority

from rllab.data import Data, DatasetConfig, DatasetTask, classification, regression
from rllab.seeding import Streams
from rllab.testing import check_algorithm


def fitted(data: Data) -> Majority:
    task = DatasetTask("here", DatasetConfig(), data)
    made = Majority(Majority.Config(), task, device=torch.device("cpu"), streams=Streams(0))
    made.setup()
    made.step()
    return made


def test_it_keeps_the_contract_for_classes_and_for_numbers() -> None:
    check_algorithm("majority", "digits")
    check_algorithm("majority", "diabetes")


def test_it_answers_with_the_shares_of_the_classes() -> None:
    made = fitted(Data(classification([[0.0]] * 4, [2, 0, 2, 2]), ("a", "b", "c")))
    assert made.predict(torch.zeros(2, 1)).tolist() == [[0.25, 0, 0.75]] * 2
    assert set(made.weights()) == {"scaler.shift", "scaler.factor", "answer.numbers"}


def test_it_answers_with_the_mean() -> None:
    assert fitted(Data(regression([[0.0]] * 3, [1.0, 2.0, 6.0]))).predict(torch.zeros(2, 1)).tolist() == [3, 3]
