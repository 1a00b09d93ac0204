// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real views: equal ones, deliberate differences, real differences, and how a view is named.

use crate::asked::{compare, difference_lines, exits, fill, json};
use crate::common::check::Must;
use crate::common::for_each_mode;
use crate::common::mode::program;
use crate::common::mount::run;
use std::process::Command;

for_each_mode!(views_of_everything_are_equal, |fx| {
    fill(fx);
    let report = json(&mut compare(fx), 0);
    assert_eq!(report["equal"], true, "{report:#}");
    assert_eq!(report["difference-count"], 0);
    let of = |key: &str| report[key].as_u64().expect("a number");
    // Every name of the merged view and the top directory; the link counts as a name.
    assert_eq!(of("objects"), 26, "{report:#}");
    assert_eq!(of("files"), 15, "{report:#}");
    assert!(
        of("bytes") > 10_000_000,
        "the sparse file is read: {report:#}"
    );
    assert!(of("probes") > 200, "{report:#}");
    assert_eq!(report["expected"], serde_json::json!([]));
    let text = exits(&mut compare(fx), 0);
    assert!(
        text.starts_with("equal: 26 objects, 15 files, 9.5 MiB, "),
        "{text}"
    );
});

for_each_mode!(deliberate_differences_are_told_and_do_not_count, |fx| {
    fx.lower().file(".links/of-lower", "l").dir("redirected");
    fx.upper()
        .file(".links/of-upper", "u")
        .whiteout("device")
        .dir("redirected")
        .marker("redirected", "redirect", "/other")
        .dir(".overstore-new-0");
    let report = json(&mut compare(fx), 0);
    let rows: Vec<_> = report["expected"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| {
            (
                row["row"].as_str().expect("a name"),
                row["examples"][0].as_str(),
            )
        })
        .collect();
    let expected = [
        ("links", Some(".links/of-lower")),
        ("device", Some("device")),
        ("redirect-metacopy", Some("redirected")),
        ("reserved-names", Some(".overstore-new-0")),
    ];
    assert_eq!(rows, expected, "{report:#}");
    let text = exits(&mut compare(fx), 0);
    assert!(
        text.contains("why: Nix's collector removes links"),
        "{text}"
    );
    let text = exits(compare(fx).arg("--strict"), 1);
    let line = ".links/of-lower: presence: fuse nothing, kernel file [deliberate: links]";
    assert!(difference_lines(&text).contains(&line), "{text}");
    assert!(
        text.contains("; 0 deliberate") || text.contains(", 0 deliberate"),
        "{text}"
    );
});

// To root the kernel's OverlayFS knows its own family of marks only, the driver knows both: an upper
// that was written in a user namespace is not the same to both.
for_each_mode!(a_real_difference_is_told, [root], |fx| {
    fx.lower().file("d/lower", "l").file("d/two", "2");
    fx.upper()
        .dir("d")
        .xattr("d", "user.overlay.opaque", "y")
        .file("d/upper", "u");
    let text = exits(&mut compare(fx), 1);
    let expected = [
        "d/lower: presence: fuse nothing, kernel file",
        "d/two: presence: fuse nothing, kernel file",
    ];
    assert_eq!(difference_lines(&text)[..2], expected, "{text}");
    assert!(text.contains("different: "), "{text}");
    let report = json(compare(fx).args(["--max", "1"]), 1);
    assert_eq!(report["differences"].as_array().expect("a list").len(), 1);
    assert!(report["difference-count"].as_u64() > Some(1), "{report:#}");
    assert_eq!(
        report["differences"][0],
        serde_json::json!({
            "path": "d/lower", "what": "presence", "detail": null,
            "fuse": "nothing", "kernel": "file", "row": null,
        })
    );
    let text = exits(compare(fx).args(["--max", "1"]), 1);
    assert!(text.contains("... and "), "{text}");
});

for_each_mode!(
    an_attribute_of_the_other_family_is_deliberate,
    [root],
    |fx| {
        fx.lower();
        fx.upper()
            .file("f", "x")
            .xattr("f", "user.overlay.foo", "1")
            .xattr("f", "user.overlay.opaque", "x");
        let report = json(&mut compare(fx), 0);
        assert_eq!(
            report["expected"][0]["row"], "overlay-attributes",
            "{report:#}"
        );
        exits(compare(fx).arg("--strict"), 1);
    }
);

// A device that does hide something is a whiteout: were it shown, no row would explain it.
for_each_mode!(
    what_an_opaque_directory_has_of_a_hidden_name_is_a_device,
    |fx| {
        fx.lower().file("opaque/name", "x").file("file", "x");
        fx.upper()
            .opaque("opaque")
            .whiteout("opaque/name")
            .whiteout("file");
        let report = json(&mut compare(fx), 0);
        let examples = &report["expected"][0]["examples"];
        assert_eq!(*examples, serde_json::json!(["opaque/name"]), "{report:#}");
    }
);

for_each_mode!(a_live_view_is_named_by_its_directory, |fx| {
    fill(fx);
    let view = fx.mount();
    let text = exits(Command::new(program()).arg("compare").arg(view.path("")), 0);
    assert!(text.starts_with("equal: 26 objects"), "{text}");
    assert_eq!(std::fs::read(view.path("low/file")).must(), b"of the lower");
    // What the view still learns of is not lost to the comparison.
    fx.upper().file("later", "x");
    let text = exits(Command::new(program()).arg("compare").arg(view.path("")), 0);
    assert!(text.starts_with("equal: 27 objects"), "{text}");
    run(Command::new(program()).arg("sync").arg(view.path("")));
    assert_eq!(std::fs::read(view.path("later")).must(), b"x");
});

for_each_mode!(
    a_live_view_of_the_kernel_and_an_upper_that_it_wrote,
    [root, userns],
    |fx| {
        fill(fx);
        let merged = fx.scratch("merged");
        for name in ["merged", "up/work"] {
            std::fs::create_dir(fx.scratch(name)).must();
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            fx.lower()
                .path("")
                .to_str()
                .expect("ASCII")
                .trim_end_matches('/'),
            fx.upper()
                .path("")
                .to_str()
                .expect("ASCII")
                .trim_end_matches('/'),
            fx.scratch("up/work").display()
        );
        run(Command::new(program())
            .args(["mount", "--backend", "kernel", "-o", &layers])
            .arg(&merged));
        // Copied up, hidden by whiteouts, made opaque.
        let script = "echo more >> linked; chmod 600 low/file; rm -r both/deep; mkdir both/deep; \
                  mv low/link low/moved; touch low/empty/new; rm 'linked too'";
        run(Command::new("sh")
            .args(["-euc", script])
            .current_dir(&merged));
        let live = exits(Command::new(program()).arg("compare").arg(&merged), 0);
        assert!(live.starts_with("equal: "), "{live}");
        run(Command::new("umount").arg(&merged));
        assert_eq!(exits(&mut compare(fx), 0), live);
    }
);

// Names that come and go while they are compared are no differences.
for_each_mode!(layers_that_change_meanwhile_are_looked_at_again, |fx| {
    fill(fx);
    for number in 0..300 {
        fx.lower().file(format!("some-{number}"), "x");
    }
    let (upper, done) = (fx.upper(), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                upper.file(format!("new-{number}/file"), "y");
                std::thread::park_timeout(std::time::Duration::from_millis(3));
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
            }
        });
        let outputs: Vec<_> = (0..4).map(|_| compare(fx).output()).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for output in outputs {
            let output = output.must();
            let text = crate::common::check::text(&output.stdout);
            let error = crate::common::check::text(&output.stderr);
            assert!(output.status.success(), "{text} {error}");
        }
    });
});
