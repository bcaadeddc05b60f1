//! CronJobs: the schedule, the time zone, the template of their Jobs.

use serde_json::Value;

use super::at::At;
use super::job;
use crate::status::Cause;

/// Characters of a CronJob's name: its Jobs add eleven.
const NAME_LEN_MAX: usize = 52;
const ZONE_PART_LEN_MAX: usize = 14;

/// A new or changed CronJob.
pub(super) fn cron_job(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let spec = At::new(&object["spec"], "spec");
    let schedule = spec.get("schedule");
    match schedule.own_text() {
        "" => schedule.required("", causes),
        text => {
            if let Some(detail) = cron_error(text) {
                schedule.invalid(&detail, causes);
            }
            let had_zone = old.is_some_and(|old| super::text(&old["spec"], "schedule").contains("TZ"));
            if text.contains("TZ") && had_zone && spec.has("timeZone") {
                schedule.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule", causes);
            } else if text.contains("TZ") && !had_zone {
                let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
                schedule.invalid(detail, causes);
            }
        }
    }
    spec.get("startingDeadlineSeconds").not_negative(causes);
    let zone = spec.get("timeZone");
    if zone.is_set() && old.is_none_or(|old| old["spec"]["timeZone"] != *zone.value) {
        time_zone(&zone, causes);
    }
    spec.get("concurrencyPolicy").one_of_required(&["Allow", "Forbid", "Replace"], causes);
    let inner = spec.get("jobTemplate").get("spec");
    job::spec(&inner, causes);
    if inner.has("selector") {
        inner.get("selector").invalid("`selector` will be auto-generated", causes);
    }
    if inner.flag("manualSelector") {
        inner.get("manualSelector").unsupported(&["nil", "false"], causes);
    }
    spec.get("successfulJobsHistoryLimit").not_negative(causes);
    spec.get("failedJobsHistoryLimit").not_negative(causes);
    let name = super::text(&object["metadata"], "name");
    if old.is_none() && name.len() > NAME_LEN_MAX {
        causes.push(Cause::invalid("metadata.name", &name.into(), "must be no more than 52 characters"));
    }
}

fn time_zone(zone: &At<'_>, causes: &mut Vec<Cause>) {
    let name = zone.own_text();
    let unknown = format!("unknown time zone {name}");
    if name.is_empty() {
        return zone.invalid("timeZone must be nil or non-empty string", causes);
    }
    let sound = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.len() <= ZONE_PART_LEN_MAX
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_+".contains(&b))
    };
    if !name.split('/').all(sound) {
        return zone.invalid(&unknown, causes);
    }
    if name.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        zone.invalid(detail, causes);
    }
    if name != "Local" && jiff::tz::TimeZone::get(name).is_err() {
        zone.invalid(&unknown, causes);
    }
}

/// What is wrong with a schedule.
fn cron_error(schedule: &str) -> Option<String> {
    // The zone is complained about elsewhere.
    let zoned = schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=");
    let schedule =
        if zoned { schedule.split_once(' ').map_or("", |(_, rest)| rest).trim() } else { schedule };
    if let Some(word) = schedule.strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        let fine = known.contains(&word) || word.starts_with("every ");
        return (!fine).then(|| format!("unrecognized descriptor: {schedule}"));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    const NAMES: &[&str] = &[
        "sun", "mon", "tue", "wed", "thu", "fri", "sat", "jan", "feb", "mar", "apr", "may", "jun", "jul",
        "aug", "sep", "oct", "nov", "dec",
    ];
    let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
    for (field, (low, high)) in fields.iter().zip(bounds) {
        for part in field.split(',') {
            let (range, step) =
                part.split_once('/').map(|(range, step)| (range, Some(step))).unwrap_or((part, None));
            if step.is_some_and(|step| step.parse::<u32>().map_or(true, |step| step == 0)) {
                return Some(format!("failed to parse int from {part}"));
            }
            if matches!(range, "*" | "?") {
                continue;
            }
            for end in range.split('-') {
                let known = NAMES.contains(&end.to_lowercase().as_str());
                match end.parse::<i64>() {
                    Ok(number) if number < low => {
                        return Some(format!("beginning of range ({number}) below minimum ({low}): {part}"));
                    }
                    Ok(number) if number > high => {
                        return Some(format!("end of range ({number}) above maximum ({high}): {part}"));
                    }
                    Ok(_) => {}
                    Err(_) if known => {}
                    Err(_) => return Some(format!("failed to parse int from {end}")),
                }
            }
        }
    }
    None
}
