def run_report(experiment, *a):
    return experiment.root
