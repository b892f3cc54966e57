def describe(*a, **k):
    return []
