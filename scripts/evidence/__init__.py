"""What fine-tuning is measured by: data, baselines, models, statistics and the page of results."""
