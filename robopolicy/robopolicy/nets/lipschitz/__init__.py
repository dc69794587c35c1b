"""Nets with a proven Lipschitz constant: how far an output can move when an input moves.

Every layer computes the weights that it uses from free parameters, at every evaluation; nothing is kept that
could grow stale. ``fold`` writes them into plain layers for deployment.
"""
