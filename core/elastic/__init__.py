"""ElasticTrainer (MobiSys 2023): fine-tuning within a time budget by choosing tensors."""
