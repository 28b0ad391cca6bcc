"""How the steps of one attempt are carried out: order, lists, tries, waits, budget. The executor puts it together."""
