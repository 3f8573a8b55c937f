//! Attaching devices by name while DPDK runs.

use super::eal::Eal;
use super::error::{Error, explain};
use super::log;
use core::ffi::c_int;
use std::ffi::CString;
use std::{fs, ptr};

/// A device that DPDK drives, attached and not yet configured. Dropping it closes and detaches it.
///
/// Invariant: no other `Device` has the same port number (`State::ports`), so whoever holds it configures the port alone.
#[derive(Debug)]
pub struct Device {
    eal: Eal,
    /// As configured: address or name, and arguments.
    name: String,
    port_id: u16,
    /// Whether this process attached it, rather than EAL's own arguments.
    attached: bool,
}

/// Kernel drivers that DPDK works through; with any other, the device is the kernel's.
const DPDK_KERNEL_DRIVERS: &[&str] =
    &["vfio-pci", "uio_pci_generic", "igb_uio", "mlx4_core", "mlx5_core", "mana", "uio_hv_generic"];

impl Device {
    /// Attaches `device`: a PCI address (`0000:3b:00.0`) or a software port (`net_af_packet0,iface=eth1`), each with
    /// arguments of its driver after a comma. A device that EAL's own arguments attached is taken over.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`] if there is no such device or DPDK has no driver for it; [`Error::DeviceInUse`] if it is open;
    /// [`Error::Device`] if its driver refuses.
    pub fn attach(eal: &Eal, device: &str) -> Result<Self, Error> {
        let device = normalised(device);
        let name = device.split(',').next().unwrap_or_default();
        check_exists(&device, name)?;

        let known = port_by_name(name);
        if known.is_none() {
            probe(&device)?;
        }
        let port_id = known.or_else(|| port_by_name(name)).ok_or_else(|| Error::UnknownDevice {
            device: device.clone(),
            reason: "its driver made no Ethernet port".into(),
            advice: "use a device that `dpdk-devbind.py --status-dev net` lists, or a net_… software port"
                .into(),
        })?;
        if !eal.state().ports.insert(port_id) {
            return Err(Error::DeviceInUse { device });
        }
        Ok(Self { eal: eal.clone(), name: device, port_id, attached: known.is_none() })
    }

    /// As configured.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// NUMA node that it is attached to, if the system says.
    pub fn numa_node(&self) -> Option<u32> {
        // SAFETY: the port exists as long as `self`.
        u32::try_from(unsafe { dpdk_sys::rte_eth_dev_socket_id(self.port_id) }).ok()
    }

    pub(super) fn eal(&self) -> &Eal {
        &self.eal
    }

    pub(super) fn port_id(&self) -> u16 {
        self.port_id
    }

    /// What the driver says about the device now.
    pub(super) fn info(&self) -> Result<dpdk_sys::rte_eth_dev_info, Error> {
        let mut info = dpdk_sys::rte_eth_dev_info::default();
        let mark = log::mark();
        // SAFETY: the port exists as long as `self`, and `info` is written whole.
        let status = unsafe { dpdk_sys::rte_eth_dev_info_get(self.port_id, &raw mut info) };
        self.check("reading its capabilities", status, mark)?;
        Ok(info)
    }

    /// Turns a negative errno into an error that names the device and the step.
    pub(super) fn check(&self, step: &'static str, status: c_int, mark: u64) -> Result<(), Error> {
        if status >= 0 {
            return Ok(());
        }
        let reason = explain(status, mark);
        let advice = advice(&self.name, status, &reason);
        Err(Error::Device { device: self.name.clone(), step, reason, advice })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut info = dpdk_sys::rte_eth_dev_info::default();
        // SAFETY: the port exists until it is closed below, and nobody else uses it: its queues are gone before the device
        // is (`port::Shared`). The generic device behind it stays valid until it is removed.
        unsafe {
            let known = dpdk_sys::rte_eth_dev_info_get(self.port_id, &raw mut info) == 0;
            dpdk_sys::rte_eth_dev_close(self.port_id);
            if known && self.attached && !info.device.is_null() {
                dpdk_sys::rte_dev_remove(info.device);
            }
        }
        self.eal.state().ports.remove(&self.port_id);
    }
}

/// The device string as DPDK wants it: trimmed, and a PCI address with its domain.
fn normalised(device: &str) -> String {
    let device = device.trim();
    let name = device.split(',').next().unwrap_or_default();
    let short = name.len() == 7 && is_pci(&format!("0000:{name}"));
    if short { format!("0000:{device}") } else { device.to_string() }
}

/// Whether `name` is a PCI address, `domain:bus:device.function`.
fn is_pci(name: &str) -> bool {
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = name.split([':', '.']).collect();
    parts.len() == 4 && parts.iter().all(|part| hex(part)) && name.matches(':').count() == 2
}

/// What can be said before DPDK is asked, in clearer words than DPDK's.
fn check_exists(device: &str, name: &str) -> Result<(), Error> {
    let unknown = |reason: String, advice: &str| {
        Err(Error::UnknownDevice { device: device.to_string(), reason, advice: advice.to_string() })
    };
    if is_pci(name) {
        let folder = format!("/sys/bus/pci/devices/{}", name.to_lowercase());
        if fs::metadata(&folder).is_err() {
            return unknown(
                "the machine has no PCI device at this address".into(),
                "see `dpdk-devbind.py --status-dev net`",
            );
        }
        let driver = fs::read_link(format!("{folder}/driver")).ok();
        let driver = driver
            .as_deref()
            .and_then(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned());
        return match driver {
            Some(driver) if DPDK_KERNEL_DRIVERS.contains(&driver.as_str()) => Ok(()),
            Some(driver) => unknown(
                format!("the kernel's {driver:?} drives it"),
                "if the host does not need it, give it to DPDK: `dpdk-devbind.py -b vfio-pci ADDRESS`",
            ),
            None => unknown(
                "no kernel driver offers it to DPDK".into(),
                "bind it: `modprobe vfio-pci; dpdk-devbind.py -b vfio-pci ADDRESS`",
            ),
        };
    }
    if !name.starts_with("net_") {
        return unknown(
            "it is neither a PCI address nor a software port".into(),
            "write \"0000:3b:00.0\", or for example \"net_af_packet0,iface=eth1\"",
        );
    }
    if !name.ends_with(|end: char| end.is_ascii_digit()) {
        return unknown("a software port's name ends in a number".into(), "write for example \"net_null0\"");
    }
    let needs_interface = name.starts_with("net_af_packet") || name.starts_with("net_af_xdp");
    let interface = device.split(',').find_map(|part| part.strip_prefix("iface="));
    match interface {
        None if needs_interface => unknown("it names no interface".into(), "add \",iface=NAME\""),
        Some(interface) if needs_interface && !interface_exists(interface) => unknown(
            format!("there is no network interface {interface:?}"),
            "`ip link` lists those of this network namespace",
        ),
        _ => Ok(()),
    }
}

fn interface_exists(name: &str) -> bool {
    let Ok(name) = CString::new(name) else { return false };
    // SAFETY: the name is a terminated string.
    unsafe { libc::if_nametoindex(name.as_ptr()) != 0 }
}

fn probe(device: &str) -> Result<(), Error> {
    let text =
        CString::new(device).map_err(|_| Error::ZeroByte { what: "device", value: device.to_string() })?;
    let mark = log::mark();
    // SAFETY: EAL is initialised (the caller holds it), and the terminated string is copied.
    let status = unsafe { dpdk_sys::rte_dev_probe(text.as_ptr()) };
    if status >= 0 {
        return Ok(());
    }
    let device = device.to_string();
    let reason = explain(status, mark);
    if reason.contains("failed to parse device") {
        let reason = "DPDK has no driver of this name".into();
        let advice =
            "check the name, and that the package with DPDK's drivers is installed (librte-net-…)".into();
        return Err(Error::UnknownDevice { device, reason, advice });
    }
    let advice = advice(&device, status, &reason);
    Err(Error::Device { device, step: "attaching", reason, advice })
}

/// What to do about a refusal of this device.
fn advice(device: &str, status: c_int, reason: &str) -> String {
    let denied = reason.contains("not permitted") || reason.contains("ermission denied");
    // SAFETY: reads a number.
    let root = unsafe { libc::geteuid() } == 0;
    let arguments = device.split_once(',').map_or("none", |(_, arguments)| arguments);
    let run_as_root = "run as root, or give the user CAP_NET_ADMIN and CAP_NET_RAW";
    match -status {
        // Drivers return what they like.
        libc::EPERM | libc::EACCES if !root => run_as_root.into(),
        _ if denied => run_as_root.into(),
        libc::ENOMEM => "raise `memory`, or reserve more hugepages".into(),
        libc::EEXIST => "give each software port its own number".into(),
        _ if device.starts_with("net_virtio_user") => "check that the other side listens on the path".into(),
        _ if device.starts_with("net_") => format!("check the driver's arguments ({arguments})"),
        _ => "check that the device is bound to vfio-pci: `dpdk-devbind.py --status-dev net`".into(),
    }
}

fn port_by_name(name: &str) -> Option<u16> {
    let name = CString::new(name).ok()?;
    let mut port_id = 0;
    // SAFETY: EAL is initialised (the caller holds it); the name is terminated, and one number is written.
    let status =
        unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), ptr::from_mut(&mut port_id)) };
    (status == 0).then_some(port_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses() {
        assert!(is_pci("0000:3b:00.0") && is_pci("10000:e1:00.1"));
        assert!(!is_pci("net_null0") && !is_pci("3b:00.0") && !is_pci("0000:3b:00:0"));
        assert_eq!(normalised(" 3b:00.0,dev=1"), "0000:3b:00.0,dev=1");
    }

    #[test]
    fn nonsense_is_refused_with_advice() {
        for (device, why) in [
            ("eth0", "neither a PCI address nor a software port"),
            ("", "neither a PCI address nor a software port"),
            ("net_null", "ends in a number"),
            ("net_af_packet0", "names no interface"),
            ("net_af_packet0,iface=sluice-no-such", "no network interface"),
            ("ffff:ff:1f.7", "no PCI device"),
        ] {
            let error = check_exists(device, device.split(',').next().unwrap_or_default()).expect_err(device);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
