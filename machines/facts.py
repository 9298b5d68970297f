def add_facts(*a): pass
