"""`raydesk rules check`: what is wrong with a rules file, by line, before it is used."""

from __future__ import annotations

from pathlib import Path

from deployments.answering.rules_file import RulesError, load_rules, warnings
from models.intent_versions import known_labels


def check_rules(file: Path, head: Path) -> int:
    """Prints problems and warnings; 1 where there is a problem."""
    try:
        rules = load_rules(file, 1.0, 0.0)
    except RulesError as error:
        for problem in error.problems:
            print(problem.text(file))
        if not error.problems:  # it could not be read at all
            print(error)
        return 1
    labels = known_labels(head)
    if labels is None:
        print(f"warning: no intent head is published in {head}, so the names of intents were not checked")
    else:
        for warning in warnings(file, labels):
            print(f"warning: {warning.text(file)}")
    flows = sum(bool(rule.asked_slots) for rule in rules.rules)
    print(f"{file} is valid: {len(rules.rules)} rules, {flows} of which ask first, and {len(rules.slots)} slots.")
    return 0
