"""Gates: a candidate against its baseline, case by case, and one answer that a CI server can act on."""
