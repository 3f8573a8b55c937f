//! From readings to what stands on the screen.

use super::app::{App, Next};
use super::model::{Reading, Sample};
use super::table::{Sort, Value, View, arrange, rows, short};
use super::view::{Palette, draw};
use crate::api::{
    AdminState, BackendStats, HealthState, PortStats, ServiceStats, Stats, Status, Worker, WorkerStats,
};
use crate::config::{Mode, Ports, Protocol, Scheduler};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use std::collections::BTreeMap;
use std::time::Duration;

fn backend(address: &str, packets: u64) -> BackendStats {
    BackendStats {
        address: address.into(),
        admin: AdminState::Enabled,
        health: HealthState::Up,
        health_checked: true,
        health_detail: String::new(),
        weight: 100,
        tier: 0,
        connections_active: packets / 100,
        connections_total: packets / 10,
        packets_in: packets,
        bytes_in: packets * 100,
        packets_out: 2 * packets,
        bytes_out: packets * 1000,
    }
}

fn service(name: &str, backends: Vec<BackendStats>) -> ServiceStats {
    let sum = |value: fn(&BackendStats) -> u64| backends.iter().map(value).sum::<u64>();
    ServiceStats {
        name: name.into(),
        vip: "192.0.2.10".parse().unwrap(),
        ports: Ports::new(80, 80).unwrap(),
        protocol: Protocol::Tcp,
        mode: Mode::Nat,
        scheduler: Scheduler::Maglev,
        connections_active: sum(|one| one.connections_active),
        connections_total: sum(|one| one.connections_total),
        packets_in: sum(|one| one.packets_in),
        bytes_in: sum(|one| one.bytes_in),
        packets_out: sum(|one| one.packets_out),
        bytes_out: sum(|one| one.bytes_out),
        backends,
    }
}

/// After `seconds`, with 1,000 packets a second to `web` and 50 to `dns`, whose second backend is down.
fn reading(seconds: u64) -> Reading {
    let mut down = backend("10.1.0.12:53", 0);
    (down.health, down.health_detail) = (HealthState::Down, "connection refused".into());
    let web = service(
        "web",
        vec![backend("10.1.0.11:8080", 900 * seconds), backend("10.1.0.12:8080", 100 * seconds)],
    );
    let dns = service("dns", vec![backend("10.1.0.11:53", 50 * seconds), down]);
    Reading {
        status: Status {
            version: "0.1.0".into(),
            dpdk_version: "22.11".into(),
            pid: 4711,
            uptime_seconds: seconds as f64,
            generation: 3,
            config_file: "/etc/sluice/sluice.toml".into(),
            workers: 1,
            ports: 1,
            ports_up: 1,
            services: 2,
            services_down: 0,
            backends: 4,
            backends_up: 3,
            connections_active: 10 * seconds,
            connections_max: 1_000_000,
            rx_packets: 0,
            tx_packets: 0,
            dropped_packets: 0,
            notices: Vec::new(),
        },
        stats: Stats {
            generation: 3,
            uptime_seconds: seconds as f64,
            rx_packets: 3000 * seconds,
            tx_packets: 2990 * seconds,
            rx_bytes: 1_000_000 * seconds,
            tx_bytes: 1_000_000 * seconds,
            drops: BTreeMap::from([
                ("no_service".into(), 10 * seconds),
                ("bad_checksum".into(), 7),
                ("malformed".into(), 0),
            ]),
            services: vec![dns, web],
            workers: vec![WorkerStats::default()],
            ports: vec![PortStats { name: "wan".into(), rx_packets: 3000 * seconds, ..PortStats::default() }],
            ..Stats::default()
        },
        workers: vec![Worker {
            cpu: 2,
            busy_ratio: 0.125,
            rx_packets: 3000 * seconds,
            dropped_packets: 10 * seconds,
            connections_active: 10 * seconds,
            connections_total: 105 * seconds,
            handoffs: 5 * seconds,
            ..Worker::default()
        }],
        ports: Vec::new(),
    }
}

fn sample() -> Sample {
    Sample::new(Some(&reading(10)), &reading(12))
}

fn app() -> App {
    let mut app = App::new(View::Services, String::new());
    app.hear(reading(10));
    app.hear(reading(12));
    app
}

fn press(app: &mut App, keys: &str) {
    for letter in keys.chars() {
        let code = match letter {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            letter => KeyCode::Char(letter),
        };
        assert_eq!(app.key(KeyEvent::new(code, KeyModifiers::NONE)), Next::Stay);
    }
}

/// What stands on a screen of that size, without blanks at the ends of lines.
fn screen(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app, Palette { color: true })).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

#[test]
fn rates_are_differences_over_the_daemons_own_time() {
    let sample = sample();
    assert_eq!(sample.interval_seconds, Some(2.0));
    let web = &sample.services[1];
    assert_eq!((web.name.as_str(), web.endpoint.as_str()), ("web", "tcp 192.0.2.10:80"));
    let traffic = web.traffic;
    assert_eq!(traffic.packets_in_per_second, Some(1000.0));
    assert_eq!(traffic.bits_in_per_second, Some(800_000.0));
    assert_eq!(traffic.packets_out_per_second, Some(2000.0));
    assert_eq!(traffic.connections_per_second, Some(100.0));
    assert_eq!(sample.total.rx_bits_per_second, Some(8_000_000.0));
    assert_eq!(sample.total.connections_per_second, Some(105.0));
    assert_eq!(sample.total.drops_per_second, Some(10.0));
    assert_eq!(sample.workers[0].handoffs_per_second, Some(5.0));
    assert_eq!(sample.ports[0].rx_packets_per_second, Some(3000.0));
    let drops: Vec<_> =
        sample.drops.iter().map(|one| (one.reason.as_str(), one.packets_per_second)).collect();
    assert_eq!(drops, [("bad_checksum", Some(0.0)), ("no_service", Some(10.0))]);
    assert_eq!(sample.drops[1].received_ratio, Some(10.0 / 3000.0));
}

#[test]
fn nothing_is_compared_with_what_was_before_a_restart() {
    let mut later = reading(12);
    later.status.pid = 4712;
    let after_restart = Sample::new(Some(&reading(10)), &later);
    let first = Sample::new(None, &reading(12));
    let same_time = Sample::new(Some(&reading(12)), &reading(12));
    let younger = Sample::new(Some(&reading(12)), &reading(2));
    for sample in [first, after_restart, same_time, younger] {
        assert_eq!((sample.interval_seconds, sample.total.rx_packets_per_second), (None, None));
        assert_eq!(sample.services[1].traffic.packets_in_per_second, None);
    }
}

#[test]
fn a_counter_that_went_back_has_no_rate() {
    let (mut before, now) = (reading(10), reading(12));
    before.stats.services[1].packets_in = u64::MAX;
    before.stats.services.remove(0);
    let sample = Sample::new(Some(&before), &now);
    assert_eq!(sample.services[1].traffic.packets_in_per_second, None, "it went back");
    assert_eq!(sample.services[1].traffic.packets_out_per_second, Some(2000.0));
    assert_eq!(sample.services[0].traffic.packets_in_per_second, None, "the service is new");
}

#[test]
fn numbers_have_three_digits_and_a_unit() {
    for (number, text) in [
        (0.0, "0"),
        (0.25, "0.2"),
        (9.0, "9"),
        (9.96, "10"),
        (12.4, "12"),
        (999.4, "999"),
        (999.6, "1.00k"),
        (1234.0, "1.23k"),
        (9_996.0, "10.0k"),
        (45_600.0, "45.6k"),
        (999_600.0, "1.00M"),
        (123e6, "123M"),
        (1.9e13, "19.0T"),
        (1e20, "100000P"),
    ] {
        assert_eq!(short(number), text, "{number}");
    }
}

#[test]
fn every_row_has_a_cell_for_every_column() {
    let sample = sample();
    for view in View::ALL {
        let rows = rows(&sample, view);
        assert!(!rows.is_empty(), "{view:?}");
        for row in rows {
            assert_eq!(row.len(), view.columns().len(), "{view:?}");
        }
        assert!(view.usual_sort().column < view.columns().len());
    }
}

fn first_cells(view: View, sort: Sort, filter: &str) -> Vec<String> {
    arrange(rows(&sample(), view), sort, filter).iter().map(|row| row[0].show()).collect()
}

#[test]
fn rows_are_sorted_and_filtered() {
    let busiest = View::Backends.usual_sort();
    let all = ["10.1.0.11:8080", "10.1.0.12:8080", "10.1.0.11:53", "10.1.0.12:53"];
    assert_eq!(first_cells(View::Backends, busiest, ""), all);
    let reversed = Sort { descending: false, ..busiest };
    assert_eq!(first_cells(View::Backends, reversed, "")[0], "10.1.0.12:53");
    let by_name = Sort::by(View::Backends, 0);
    assert!(!by_name.descending);
    assert_eq!(first_cells(View::Backends, by_name, "")[0], "10.1.0.11:53");
    // A filter looks at names, addresses, states and reasons, and at no number.
    assert_eq!(first_cells(View::Backends, busiest, "REFUSED"), ["10.1.0.12:53"]);
    assert_eq!(first_cells(View::Backends, busiest, "web"), ["10.1.0.11:8080", "10.1.0.12:8080"]);
    assert_eq!(first_cells(View::Backends, busiest, "100").len(), 0);
    // What is not known yet comes last of what is sorted by size.
    let unknown = vec![vec![Value::Rate(None)], vec![Value::Rate(Some(0.0))]];
    let sorted = arrange(unknown, Sort { column: 0, descending: true }, "");
    assert_eq!(sorted[0], [Value::Rate(Some(0.0))]);
}

#[test]
fn keys_choose_what_is_seen() {
    let mut app = app();
    press(&mut app, "\t");
    assert_eq!(app.view, View::Backends);
    press(&mut app, "5\t3");
    assert_eq!(app.view, View::Workers);
    app.key(KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT));
    assert_eq!(app.view, View::Backends);
    let sort = app.sort();
    press(&mut app, "r");
    assert_eq!(app.sort(), Sort { descending: false, ..sort });
    press(&mut app, "s");
    assert_eq!(app.sort(), Sort { column: sort.column + 1, descending: true });
    for _ in 0..View::Backends.columns().len() {
        press(&mut app, "s");
    }
    assert_eq!(app.sort().column, sort.column + 1, "round and round");
    press(&mut app, "S");
    assert_eq!(app.sort().column, sort.column);
    // In the filter, letters are letters.
    press(&mut app, "/webq\x08");
    assert!(app.editing && app.filter == "web" && app.rows().len() == 2);
    press(&mut app, "\n");
    assert!(!app.editing && app.filter == "web");
    press(&mut app, "\x1b");
    assert_eq!((app.filter.as_str(), app.rows().len()), ("", 4));
    for quit in [
        KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE),
        KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL),
    ] {
        assert_eq!(app.key(quit), Next::Quit);
    }
    press(&mut app, "/");
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.key(interrupt), Next::Quit, "also while editing");
}

#[test]
fn a_pause_holds_what_is_seen_and_goes_on_where_the_daemon_is() {
    let mut app = app();
    press(&mut app, " ");
    app.hear(reading(14));
    assert_eq!(app.sample.as_ref().map(|sample| sample.uptime_seconds), Some(12.0));
    assert!(screen(&mut app, 80, 10)[0].contains("PAUSED"));
    press(&mut app, " ");
    app.hear(reading(15));
    assert_eq!(app.sample.as_ref().unwrap().interval_seconds, Some(1.0));
}

#[test]
fn a_wide_screen_shows_it_all() {
    let mut app = app();
    assert_eq!(
        screen(&mut app, 120, 9),
        [
            "sluice 0.1.0  services 2 of 2 up  backends 3 of 4 up  up 00:00:12  generation 3",
            "rx 3.00k pkt/s  tx 2.99k pkt/s  drops 10/s  busy 12.5 %  rx 8.00 Mbit/s  tx 8.00 Mbit/s",
            "connections 120 of 1.00M  new 105/s  █",
            " 1 services  2 backends  3 workers  4 drops  5 ports",
            "SERVICE   ENDPOINT           UP       ACTIVE   NEW/s  IN pkt/s▼   IN bit/s   OUT pkt/s   OUT bit/s",
            "web       tcp 192.0.2.10:80  2 of 2      120     100      1.00k       800k       2.00k       8.00M",
            "dns       tcp 192.0.2.10:80  1 of 2        6       5         50      40.0k         100        400k",
            "",
            "q quit  Tab view  s sort  r reverse  / filter  ↑↓ scroll  space pause",
        ]
    );
}

#[test]
fn narrow_screens_lose_what_says_least() {
    let mut app = app();
    assert_eq!(
        screen(&mut app, 60, 5),
        [
            "sluice 0.1.0  services 2 of 2 up  backends 3 of 4 up",
            "SERVICE   UP       ACTIVE   NEW/s  IN pkt/s▼   IN bit/s",
            "web       2 of 2      120     100      1.00k       800k",
            "dns       1 of 2        6       5         50      40.0k",
            "q quit  Tab view  s sort  r reverse  / filter  ↑↓ scroll",
        ]
    );
    assert_eq!(
        screen(&mut app, 20, 5),
        [
            "sluice 0.1.0",
            "SERVICE   IN pkt/s▼",
            "web           1.00k",
            "dns              50",
            "q quit  Tab view",
        ]
    );
}

#[test]
fn there_is_no_screen_too_small() {
    let mut app = app();
    app.lose("cannot reach it".into(), Duration::ZERO);
    for view in View::ALL {
        app.view = view;
        for (width, height) in
            [(0, 0), (1, 1), (0, 5), (20, 0), (2, 2), (3, 3), (10, 1), (200, 4), (500, 100)]
        {
            assert_eq!(screen(&mut app, width, height).len(), usize::from(height));
        }
    }
}

#[test]
fn long_lists_are_scrolled_and_end_with_their_last_row() {
    let mut app = app();
    let mut many = reading(20);
    many.stats.services[1].backends =
        (0..1000).map(|number| backend(&format!("10.2.0.{number:03}:80"), 1000 - number)).collect();
    app.hear(many);
    press(&mut app, "2ssssr");
    assert_eq!(app.sort(), Sort { column: 10, descending: true });
    press(&mut app, "sr");
    // By name, the last first.
    let seen = screen(&mut app, 80, 12);
    assert!(seen[5].starts_with("10.2.0.999:80  web"), "{seen:#?}");
    assert!(seen[11].starts_with("1-6 of 1002"), "{seen:#?}");
    app.key(KeyEvent::new(KeyCode::PageDown, KeyModifiers::NONE));
    let seen = screen(&mut app, 80, 12);
    assert!(seen[5].starts_with("10.2.0.993:80"), "{seen:#?}");
    app.key(KeyEvent::new(KeyCode::End, KeyModifiers::NONE));
    let seen = screen(&mut app, 80, 12);
    assert!(seen[10].starts_with("10.1.0.11:53") && seen[11].starts_with("997-1002 of 1002"), "{seen:#?}");
    press(&mut app, "k");
    assert_eq!(app.top, 995);
}

#[test]
fn a_filter_is_typed_at_the_foot_and_told_where_it_leaves_nothing() {
    let mut app = app();
    press(&mut app, "/nowhere");
    let seen = screen(&mut app, 60, 9);
    assert_eq!(seen[5], "nothing has \"nowhere\" in it; Esc shows all");
    assert!(seen[8].starts_with("/nowhere▏"), "{seen:#?}");
}

#[test]
fn the_reason_is_cut_before_it_is_left_out() {
    let mut app = app();
    press(&mut app, "2/down");
    let [whole, cut, without] = [122, 117, 115].map(|width| screen(&mut app, width, 9)[5].clone());
    assert!(
        whole.starts_with("10.1.0.12:53  dns       down ") && whole.ends_with("  connection refused"),
        "{whole}"
    );
    assert!(cut.ends_with("  connection r…"), "{cut}");
    assert!(without.ends_with(" 0"), "{without}");
}

#[test]
fn an_absent_daemon_is_told_and_what_was_known_stays() {
    let mut app = App::new(View::Services, String::new());
    assert_eq!(screen(&mut app, 60, 5)[0], "asking the daemon ...");
    app.lose("there is no such socket".into(), Duration::from_secs(1));
    assert_eq!(screen(&mut app, 60, 5)[0], "no answer for 0 s, trying on: there is no such socket");
    app.hear(reading(10));
    app.hear(reading(12));
    app.lose("it is refused".into(), Duration::from_secs(20));
    app.lose("it is refused".into(), Duration::from_secs(25));
    let seen = screen(&mut app, 60, 9);
    assert_eq!(seen[0], "no answer for 5 s, trying on: it is refused");
    assert!(seen.iter().any(|line| line.starts_with("web ")), "{seen:#?}");
    // It is back, and younger.
    app.hear(reading(1));
    let seen = screen(&mut app, 60, 9);
    assert!(seen[0].starts_with("sluice 0.1.0") && seen[1].starts_with("rx - pkt/s"), "{seen:#?}");
}

#[test]
fn colours_are_optional() {
    let mut app = app();
    press(&mut app, "2");
    let colored = |app: &mut App, color| {
        let mut terminal = Terminal::new(TestBackend::new(100, 12)).unwrap();
        terminal.draw(|frame| draw(frame, app, Palette { color })).unwrap();
        terminal
            .backend()
            .buffer()
            .content
            .iter()
            .any(|cell| ![cell.fg, cell.bg].iter().all(|color| *color == Color::Reset))
    };
    assert!(colored(&mut app, true));
    assert!(!colored(&mut app, false));
}
