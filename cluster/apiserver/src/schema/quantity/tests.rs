//! How a case of upstream's quantities is judged.

use serde_json::Value;

use super::{Format, NANO, Quantity, printed};
use crate::suite::same;

type Judged = Result<(), String>;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn format(name: &Value) -> Format {
    match text(name) {
        "BinarySI" => Format::Binary,
        "DecimalExponent" => Format::Exponent,
        _ => Format::Decimal,
    }
}

/// A quantity of a case. Its format may be another than its text says.
fn read(value: &Value) -> Result<Quantity, String> {
    let quantity = Quantity::parse(text(&value["value"])).ok_or("cannot be read")?;
    Ok(Quantity { format: format(&value["format"]), ..quantity })
}

/// Whether the number is the one that upstream gives as a float.
fn about(quantity: &Quantity, float: &Value) -> Judged {
    let (got, wanted) = (quantity.nano as f64 / NANO as f64, float.as_f64().unwrap());
    if (got - wanted).abs() <= wanted.abs() * 1e-12 {
        Ok(())
    } else {
        Err(format!("got {got}, wanted {wanted}"))
    }
}

pub(crate) fn parse(case: &Value) -> Judged {
    let input = text(&case["input"]);
    let shown = match printed(input) {
        Err(error) => return same(error, text(&case["message"])),
        Ok(_) if case["status"] == "error" => return Err("is read".into()),
        Ok(shown) => shown,
    };
    let quantity = Quantity::parse(input).ok_or("cannot be read")?;
    same(quantity.canonical().as_str(), text(&case["canonical"]))?;
    same(shown.as_str(), text(&case["string"]))?;
    same(quantity.format, format(&case["format"]))?;
    same(quantity.nano.signum() as i64, case["sign"].as_i64().unwrap())?;
    about(&quantity, &case["approxFloat"])?;
    // What does not fit is whatever upstream's overflow makes of it.
    let fits = |units: i128| i64::try_from(units).is_ok();
    if let Some(milli) = case["milliValue"].as_i64().filter(|_| fits(quantity.rounded(-3).0)) {
        same(quantity.scaled(-3), milli)?;
    }
    if let Some(whole) = case["asInt64"].as_i64() {
        same(quantity.nano, i128::from(whole) * NANO)?;
    }
    match fits(quantity.rounded(0).0) {
        true => same(quantity.scaled(0), case["value"].as_i64().unwrap()),
        false => Ok(()),
    }
}

pub(crate) fn json(case: &Value) -> Judged {
    let input: Value = serde_json::from_str(text(&case["input"])).map_err(|error| error.to_string())?;
    let output: Value = serde_json::from_str(text(&case["output"])).map_err(|error| error.to_string())?;
    let got = match &input {
        // Nothing is zero.
        Value::Null => "0".to_owned(),
        Value::String(text) => printed(text)?,
        number => printed(&number.to_string())?,
    };
    same(Value::String(got), output)
}

pub(crate) fn operation(case: &Value) -> Judged {
    let a = read(&case["a"])?;
    let whole = |number: &Value| Quantity::whole(number.as_i64().unwrap());
    let compare = |b: &Quantity| a.nano.cmp(&b.nano) as i64;
    let scale = || case["scale"].as_i64().unwrap() as i32;
    let got = match text(&case["op"]) {
        "Cmp" => return same(compare(&read(&case["b"])?), case["result"].as_i64().unwrap()),
        "CmpInt64" => return same(compare(&whole(&case["with"])), case["result"].as_i64().unwrap()),
        "ScaledValue" => return same(a.scaled(scale()), case["result"].as_i64().unwrap()),
        "AsApproximateFloat64" => return about(&a, &case["result"]),
        "Add" => a.plus(&read(&case["b"])?),
        "Sub" => a.minus(&read(&case["b"])?),
        "Neg" => Quantity { nano: 0, format: a.format }.minus(&a),
        "RoundUp" => {
            let (rounded, exact) = a.rounded_up(scale());
            same(exact, case["exact"] == true)?;
            rounded
        }
        other => return Err(format!("{other} is not there")),
    };
    same(got.canonical().as_str(), text(&case["result"]["value"]))?;
    // Zero has no format worth the name.
    if got.nano == 0 { Ok(()) } else { same(got.format, format(&case["result"]["format"])) }
}
