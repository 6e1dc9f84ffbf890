set(vmm_device_sources
  devices/exit_port.cpp
  devices/io_apic.cpp
  devices/power.cpp
  devices/serial_output.cpp
  devices/serial_port.cpp)
