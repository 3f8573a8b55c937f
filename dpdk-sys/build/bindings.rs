//! The allow-list, and how bindgen treats it.

use std::env;
use std::panic;
use std::path::PathBuf;

use bindgen::callbacks::{IntKind, ParseCallbacks};
use bindgen::{Builder, EnumVariation};

/// Every function that is bound, by exact name.
const FUNCTIONS: &[&str] = &[
    // Environment
    "rte_dev_name",
    "rte_dev_probe",
    "rte_dev_remove",
    "rte_eal_cleanup",
    "rte_eal_get_runtime_dir",
    "rte_eal_has_hugepages",
    "rte_eal_hotplug_add",
    "rte_eal_hotplug_remove",
    "rte_eal_init",
    "rte_eal_iova_mode",
    "rte_get_tsc_hz",
    "rte_log_set_global_level",
    "rte_log_set_level_pattern",
    "rte_socket_count",
    "rte_socket_id_by_idx",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_version",
    // Memory
    "rte_mempool_avail_count",
    "rte_mempool_free",
    "rte_mempool_in_use_count",
    "rte_pktmbuf_free_bulk",
    "rte_pktmbuf_pool_create",
    // Ports: life
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_count_avail",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_is_valid_port",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_find_next",
    "rte_eth_rx_queue_setup",
    "rte_eth_tx_queue_setup",
    // Ports: settings
    "rte_eth_allmulticast_disable",
    "rte_eth_allmulticast_enable",
    "rte_eth_allmulticast_get",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_default_mac_addr_set",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_rss_hash_conf_get",
    "rte_eth_dev_rss_hash_update",
    "rte_eth_dev_rss_reta_query",
    "rte_eth_dev_rss_reta_update",
    "rte_eth_dev_rx_offload_name",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_tx_offload_name",
    "rte_eth_dev_vlan_filter",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_disable",
    "rte_eth_promiscuous_enable",
    "rte_eth_promiscuous_get",
    // Ports: observation
    "rte_eth_stats_get",
    "rte_eth_stats_reset",
    "rte_eth_xstats_get",
    "rte_eth_xstats_get_names",
    "rte_eth_xstats_reset",
    // The shim
    "sluice_errno",
    "sluice_lcore_id",
    "sluice_link_get",
    "sluice_log_to",
    "sluice_mbuf_alloc_bulk",
    "sluice_mbuf_free",
    "sluice_reference_loop",
    "sluice_rx_burst",
    "sluice_rx_queue_count",
    "sluice_tx_burst",
];

/// Types that no bound function mentions.
const TYPES: &[&str] = &["rte_eth_fp_ops", "rte_eth_rss_reta_entry64", "sluice_mbuf_layout"];

/// Constants and variables: exact names, and prefixes whose members differ from one release to the next.
const VARIABLES: &[&str] = &[
    "RTE_ETHER_HDR_LEN",
    "RTE_ETHER_CRC_LEN",
    "RTE_ETH_(RX|TX)_OFFLOAD_[A-Z0-9_]+",
    "RTE_ETH_RETA_GROUP_SIZE",
    "RTE_ETH_RSS_[A-Z0-9_]+",
    "RTE_LOG_[A-Z]+",
    "RTE_MBUF_F_RX_IP_CKSUM_[A-Z]+",
    "RTE_MBUF_F_RX_VLAN_STRIPPED",
    "RTE_MAX_ETHPORTS",
    "RTE_MAX_LCORE",
    "RTE_MEMPOOL_CACHE_MAX_SIZE",
    "RTE_PKTMBUF_HEADROOM",
    "rte_eth_fp_ops",
];

/// Types whose fields nobody needs, or that bindgen cannot lay out on every release.
const OPAQUE: &[&str] = &[
    "rte_mbuf",
    "rte_mempool",
    "rte_device",
    "rte_eth_dev_callback",
    "rte_eth_rxtx_callback",
    "rte_eth_xstat_.*_desc",
];

/// Makes flag words 64 bits wide wherever DPDK's fields are.
#[derive(Debug)]
struct FlagWords;

impl ParseCallbacks for FlagWords {
    fn int_macro(&self, name: &str, _value: i64) -> Option<IntKind> {
        let is_flag =
            name.starts_with("RTE_MBUF_F_") || name.starts_with("RTE_ETH_RSS_") || name.contains("_OFFLOAD_");
        is_flag.then_some(IntKind::U64)
    }
}

/// Writes `bindings.rs` into the output folder.
pub(crate) fn generate(flags: &[String]) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));

    // Neither loading libclang nor starting it reports an error: both panic.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let clang = panic::catch_unwind(bindgen::clang_version);
    panic::set_hook(hook);
    if clang.is_err() {
        crate::fail("libclang, which reads DPDK's headers, is not installed: apt-get install libclang-dev");
    }

    let mut builder = Builder::default()
        .header("shim.h")
        .clang_args(flags)
        .use_core()
        .generate_comments(false)
        .prepend_enum_name(false)
        .default_enum_style(EnumVariation::NewType { is_bitfield: false, is_global: false })
        .constified_enum("sluice_mbuf_layout")
        .derive_default(true)
        .derive_debug(true)
        .layout_tests(true)
        // Flags made with RTE_BIT64() are otherwise silently absent.
        .clang_macro_fallback()
        .clang_macro_fallback_build_dir(&out)
        .parse_callbacks(Box::new(FlagWords))
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new().rerun_on_header_files(false)));
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in VARIABLES {
        builder = builder.allowlist_var(name);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    let written = builder.generate().map(|bindings| bindings.write_to_file(out.join("bindings.rs")));
    match written {
        Ok(Ok(())) => {}
        Ok(Err(error)) => crate::fail(&format!("the bindings cannot be written: {error}")),
        Err(error) => {
            let first = error.to_string().lines().next().unwrap_or_default().to_string();
            crate::fail(&format!(
                "DPDK's headers cannot be read: {first} (if a standard header is missing: apt-get install libclang-dev libc6-dev)"
            ));
        }
    }
}
