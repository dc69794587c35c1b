"""MuJoCo worlds: models built from embodiment data, without any downloaded mesh."""
