"""nnU-Net v2 networks as deployed: architecture, preprocessing, patches, mirroring, ensembles of folds."""
