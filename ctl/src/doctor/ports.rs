//! Ports as they run.

use super::Findings;
use crate::api::{Finding, Level, Link, Port};
use crate::config::Config;

/// Looks at the ports of a running daemon.
pub fn examine(ports: &[Port], config: &Config) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    let workers = config.runtime.workers.len();
    for port in ports {
        let subject = format!("port {}", port.name);
        match port.link {
            Link::Down => {
                let remedy = "look at the cable and at the switch's port";
                findings.add(
                    Level::Problem,
                    "link",
                    &subject,
                    "the link is down",
                    "no packet comes or goes",
                    remedy,
                );
            }
            Link::Up => findings.ok("link", &subject, "the link is up"),
            Link::Unknown => {}
        }
        let wanted =
            config.ports.iter().find(|wanted| wanted.name == port.name).map_or(0, |wanted| wanted.mtu);
        if port.mtu_bytes < wanted {
            let what = format!("the port takes {} bytes, its mtu is {wanted}", port.mtu_bytes);
            let remedy = format!("lower the port's mtu to {}", port.mtu_bytes);
            findings.add(Level::Problem, "port_mtu", &subject, what, "larger packets are lost", remedy);
        } else {
            findings.ok("port_mtu", &subject, format!("the port takes {} bytes", port.mtu_bytes));
        }
        queues(port, workers, &subject, &mut findings);
        let unused = port.offloads.iter().filter(|offload| !offload.in_use).count();
        let used = port.offloads.len() - unused;
        findings.ok(
            "offloads",
            &subject,
            format!("{used} of {} offloads of the driver are of use", port.offloads.len()),
        );
    }
    findings.0
}

fn queues(port: &Port, workers: usize, subject: &str, findings: &mut Findings) {
    let (rx, tx) = (port.queues.rx_queues, port.queues.tx_queues);
    if workers < 2 {
        findings.ok("rss", subject, "there is one worker: nothing has to be spread");
        return;
    }
    if usize::from(rx.min(tx)) < workers {
        findings.add(
            Level::Warning,
            "queues",
            subject,
            format!("it has {rx} RX and {tx} TX queues for {workers} workers"),
            "workers without a queue get their packets from others",
            format!("give it more queues (net_af_packet: qpairs={workers}), or use fewer workers"),
        );
    } else {
        findings.ok("queues", subject, format!("every worker has a queue ({rx} RX, {tx} TX)"));
    }
    match (port.rss.in_use, port.rss.computable) {
        (true, true) => findings.ok("rss", subject, "packets arrive at their connection's worker"),
        (true, false) => findings.add(
            Level::Note,
            "rss",
            subject,
            "the NIC spreads packets by a key that the driver does not tell",
            "part of the packets is handed over between workers",
            "sluicectl port shows how many",
        ),
        (false, _) => findings.add(
            Level::Note,
            "rss",
            subject,
            "the driver does not spread packets by RSS",
            "part of the packets is handed over between workers",
            "use a NIC with RSS for more than one worker",
        ),
    }
}
