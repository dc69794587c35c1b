"""What stands between every command and every device, inside the device's own process."""
