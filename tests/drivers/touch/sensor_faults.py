"""What the tests of faults share."""

from robopolicy_datasets.errors import DeviceError


def noticed(sensor, words):
    """Returns a condition: reading the sensor fails by now, and its message has ``words``."""

    def fails():
        try:
            sensor.read()
        except DeviceError as error:
            return words in str(error)
        return False

    return fails
