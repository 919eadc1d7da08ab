"""What real boards show: trees of the kernel and answers of the firmware, as they were recorded."""

import stat
from collections.abc import Mapping
from pathlib import Path

# A Jetson TX2 under L4T 32: three chips of the module and the carrier board, by I2C address.
TX2_RAILS = {
    "0-0040": (("VDD_SYS_GPU", 152), ("VDD_SYS_SOC", 610), ("VDD_4V0_WIFI", 19)),
    "0-0041": (("VDD_IN", 3057), ("VDD_SYS_CPU", 305), ("VDD_SYS_DDR", 668)),
    "0-0042": (("VDD_MUX", 4200), ("VDD_5V0_IO_SYS", 1100), ("VDD_3V3_SYS", 700)),
}

# A Jetson Orin Nano under L4T 36: label, mV, mA. The seventh is no rail: no current belongs to it.
ORIN_RAILS = (("VDD_IN", 4984, 1856), ("VDD_CPU_GPU_CV", 4976, 360), ("VDD_SOC", 4976, 480))

# Of a Raspberry Pi 5 under load.
PMIC = """\
 3V7_WL_SW_A current(0)=0.05855580A
   3V3_SYS_A current(1)=0.06148359A
   1V8_SYS_A current(2)=0.13272650A
  DDR_VDD2_A current(3)=0.13955800A
  DDR_VDDQ_A current(4)=0.00980400A
   1V1_SYS_A current(5)=0.19811380A
    0V8_SW_A current(6)=0.34157550A
  VDD_CORE_A current(7)=5.03652000A
   3V3_DAC_A current(17)=0.00006105A
   3V3_ADC_A current(18)=0.00054945A
   0V8_AON_A current(16)=0.00531135A
      HDMI_A current(22)=0.02161170A
 3V7_WL_SW_V volt(8)=3.61069200V
   3V3_SYS_V volt(9)=3.29982600V
   1V8_SYS_V volt(10)=1.81684800V
  DDR_VDD2_V volt(11)=1.10109800V
  DDR_VDDQ_V volt(12)=0.60366240V
   1V1_SYS_V volt(13)=1.10292900V
    0V8_SW_V volt(14)=0.80292960V
  VDD_CORE_V volt(15)=0.89369880V
   3V3_DAC_V volt(20)=3.29944700V
   3V3_ADC_V volt(21)=3.30402600V
   0V8_AON_V volt(19)=0.79618980V
      HDMI_V volt(23)=4.92450000V
     EXT5V_V volt(24)=4.92450000V
      BATT_V volt(25)=0.00341880V
"""

# Of a Shelly Plug US; the second is one that does not measure.
SHELLY = (
    '{"id":0,"source":"loopback","output":true,"apower":10.7,"voltage":120.7,"current":0.133,'
    '"aenergy":{"total":46791.262,"by_minute":[73.921,177.749,177.749],"minute_ts":1682952864},'
    '"temperature":{"tC":47.9,"tF":118.3}}'
)
SHELLY_UNMETERED = '{"id":0,"source":"init","output":true,"temperature":{"tC":44.4,"tF":112.0}}'


def tree(root: Path, files: Mapping[str, object]) -> Path:
    """Write files of the kernel, each with the line break that it has there."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_name(f"{path.name}.new")  # who reads meanwhile sees one or the other
        whole.write_text(f"{content}\n")
        whole.replace(path)
    return root


def tx2(root: Path) -> Path:
    """The tree of a TX2."""
    files: dict[str, object] = {}
    for number, (address, rails) in enumerate(TX2_RAILS.items()):
        folder = f"bus/i2c/drivers/ina3221x/{address}/iio:device{number}"
        for channel, (name, milliwatts) in enumerate(rails):
            volts = 19168 if name == "VDD_IN" else 4800
            files[f"{folder}/rail_name_{channel}"] = name
            files[f"{folder}/in_power{channel}_input"] = milliwatts
            files[f"{folder}/in_voltage{channel}_input"] = volts
            files[f"{folder}/in_current{channel}_input"] = round(1000 * milliwatts / volts)
    zones = (("BCPU-therm", 38500), ("GPU-therm", 37000), ("PMIC-Die", 100000), ("Tdiode_tegra", 0))
    for number, (kind, celsius) in enumerate(zones):
        files[f"class/thermal/thermal_zone{number}/type"] = kind
        files[f"class/thermal/thermal_zone{number}/temp"] = celsius
    for number, (kind, state) in enumerate(
        (("cpu-balanced", 0), ("gpu-balanced", 0), ("pwm-fan", 2))
    ):
        files[f"class/thermal/cooling_device{number}/type"] = kind
        files[f"class/thermal/cooling_device{number}/cur_state"] = state
    for core, kilohertz in enumerate((2035200, 345600)):
        files[f"devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq"] = kilohertz
    files["firmware/devicetree/base/model"] = "quill\0"
    tree(root, files)
    # L4T also has a link of another name to each.
    for number, address in enumerate(TX2_RAILS):
        chip = root / "bus/i2c/drivers/ina3221x" / address
        (chip / "iio_device").symlink_to(chip / f"iio:device{number}")
    return root


def orin(root: Path) -> Path:
    """The tree of an Orin Nano."""
    folder = "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    files: dict[str, object] = {f"{folder}/name": "ina3221"}
    for channel, (label, millivolts, milliamperes) in enumerate(ORIN_RAILS, start=1):
        files[f"{folder}/in{channel}_label"] = label
        files[f"{folder}/in{channel}_input"] = millivolts
        files[f"{folder}/curr{channel}_input"] = milliamperes
    files[f"{folder}/in7_label"] = "sum of shunt voltages"
    files[f"{folder}/in7_input"] = 12
    files["class/hwmon/hwmon3/name"] = "soctherm_oc"
    for number, count in enumerate((0, 15, 37), start=1):
        files[f"class/hwmon/hwmon3/oc{number}_event_cnt"] = count
    files["class/thermal/thermal_zone0/type"] = "cpu-thermal"
    files["class/thermal/thermal_zone0/temp"] = 51250
    return tree(root, files)


def rapl(root: Path, energies: Mapping[str, int]) -> Path:
    """The tree of an Intel server with two packages. energies: µJ by zone."""
    names = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:1:0": "dram",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    files: dict[str, object] = {"class/powercap/intel-rapl/enabled": 1}
    for zone, name in names.items():
        files[f"class/powercap/{zone}/name"] = name
        files[f"class/powercap/{zone}/energy_uj"] = energies.get(zone, 0)
        files[f"class/powercap/{zone}/max_energy_range_uj"] = 262143328850
    return tree(root, files)


def intel(root: Path, count: int = 2) -> Path:
    """The tree of an Intel processor that was too hot before the run."""
    files = {
        f"devices/system/cpu/cpu{cpu}/thermal_throttle/{what}_throttle_count": count
        for cpu in range(2)
        for what in ("core", "package")
    }
    files |= {
        "class/thermal/cooling_device0/type": "Processor",
        "class/thermal/cooling_device0/cur_state": 0,
        "class/thermal/cooling_device1/type": "intel_powerclamp",
        "class/thermal/cooling_device1/cur_state": -1,
    }
    return tree(root, files)


def firmware(folder: Path, answers: Mapping[str, str], status: int = 0) -> Path:
    """A `vcgencmd` in a folder for the PATH, which answers as recorded."""
    folder.mkdir(exist_ok=True)
    for name, answer in answers.items():
        (folder / f"{name}.answer").write_text(answer)
    command = folder / "vcgencmd"
    command.write_text(f'#!/bin/sh\ncat "{folder}/$1.answer"\nexit {status}\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return folder


def raspberry_pi(root: Path, model: str = "Raspberry Pi 5 Model B Rev 1.0") -> Path:
    """The tree of a Raspberry Pi."""
    files = {
        "class/thermal/thermal_zone0/type": "cpu-thermal",
        "class/thermal/thermal_zone0/temp": 62750,
        "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": 2400000,
    }
    tree(root, files)
    path = root / "firmware/devicetree/base/model"
    path.parent.mkdir(parents=True)
    path.write_text(f"{model}\0")
    return root
