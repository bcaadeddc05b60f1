//! `set`, `add`, `encrypt`, `import`, `export`, `rotate`, `rekey`.

use std::path::Path;

use dodai_secrets::file::{back, change, convert, find_all, keys};
use dodai_secrets::places::{self, Places};
use dodai_secrets::sealed::certificate::Certificate;
use dodai_secrets::sops::Format;
use dodai_secrets::{export as exporting, import};

use super::cli::{Export, File, Files, Import, Set};
use super::files::{self, Session, failed};
use crate::cli::Global;
use crate::failure::{Context, Failure, Result};

pub(crate) fn set(global: &Global, args: &Set, blind: bool) -> Result<()> {
    let session = Session::open(&args.file, &args.keyring)?;
    let text = match args.file.exists() {
        true => files::read(&args.file)?,
        false => {
            let stem = args.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            change::create(&global.namespace, args.name.as_deref().unwrap_or(&stem))
        }
    };
    if session.recipients.is_empty()
        && find_all(&text).is_ok_and(|all| all.iter().all(|one| one.spec.keys.is_empty()))
    {
        return Err(no_recipients(&args.file));
    }
    let value = match &args.from_file {
        Some(file) => {
            zeroize::Zeroizing::new(std::fs::read(file).context(format!("cannot read `{}`", file.display()))?)
        }
        None => {
            if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
                eprintln!("the value, then Ctrl-D:");
            }
            let mut value = files::stdin()?;
            if !args.keep_newline && value.ends_with(b"\n") {
                value.pop();
            }
            value
        }
    };
    let new = change::set(&text, args.name.as_deref(), &args.key, &value, blind, &session.sealing())
        .map_err(|error| failed(&args.file, &error))?;
    files::write(&args.file, &new)?;
    if !global.quiet {
        eprintln!("{}: `{}` set", args.file.display(), args.key);
    }
    Ok(())
}

pub(super) fn no_recipients(file: &Path) -> Failure {
    Failure::invalid(format!("no rule says who may read `{}`", file.display())).hint(
        "`--recipient age1...` names somebody, or `secrets.rules` in `dodai.yaml`; `dodai secret keys list` shows your own",
    )
}

pub(crate) fn encrypt(args: &File) -> Result<()> {
    let session = Session::open(&args.file, &args.keyring)?;
    let text = files::read(&args.file)?;
    let at = |error| failed(&args.file, &error);
    let secrets = convert::encrypt_secrets(&text, &session.sealing()).map_err(at)?;
    let start = secrets.as_deref().unwrap_or(&text);
    let new = back::back(None, start, &session.sealing()).map_err(at)?;
    if *new == text {
        eprintln!("{}: nothing to encrypt", args.file.display());
        return Ok(());
    }
    files::write(&args.file, &new)?;
    eprintln!("{}: encrypted", args.file.display());
    if text != *new {
        eprintln!("hint: if plaintext was ever committed, git still has it: give those values new ones");
    }
    Ok(())
}

/// The file of the other tool is left as it is.
pub(crate) fn import(global: &Global, args: &Import) -> Result<()> {
    let target = args.out.as_deref().unwrap_or(&args.file);
    let mut session = Session::open(target, &args.keyring)?;
    if !args.sealing_key.is_empty() {
        let places = Places { sealing_keys: args.sealing_key.clone(), only_these: true, ..Places::default() };
        let more = places::keyring(&places).map_err(|error| Failure::from_error("no keys", &error))?;
        session.keyring.sealing_keys.extend(more.sealing_keys);
    }
    if session.recipients.is_empty() {
        return Err(no_recipients(target));
    }
    if args.out.as_ref().is_some_and(|out| out.exists()) {
        return Err(Failure::invalid(format!("`{}` is there already", target.display())));
    }
    let text = files::read(&args.file)?;
    let format = Format::of_name(&args.file.to_string_lossy());
    let stem = args.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = args.name.as_deref().unwrap_or(&stem);
    let secrets = import::secrets(&text, format, name, &session.keyring)
        .map_err(|error| Failure::failed(format!("{}: {error}", args.file.display())))?;
    if secrets.is_empty() {
        return Err(Failure::invalid(format!("{}: no secret in it", args.file.display())));
    }
    let mut documents = Vec::new();
    for mut secret in secrets {
        secret.namespace.get_or_insert_with(|| global.namespace.clone());
        documents.push(secret.encrypt(&session.sealing()).map_err(|error| failed(&args.file, &error))?);
    }
    let result = documents.join("---\n");
    match &args.out {
        Some(out) => files::write(out, &result),
        None => {
            print!("{result}");
            Ok(())
        }
    }
}

/// The file stays as it is; `readers`, `rotateAfter` and who can read are not known to what is written.
pub(crate) fn export(args: &Export) -> Result<()> {
    let session = Session::open(&args.file, &args.keyring)?;
    let text = files::read(&args.file)?;
    let at = |error| failed(&args.file, &error);
    let Some(file) = &args.sealing_cert else {
        print!("{}", &*exporting::plaintext(&text, &session.keyring).map_err(at)?);
        return Ok(());
    };
    let certificate = Certificate::parse(&files::read(file)?, jiff::Timestamp::now())
        .map_err(|error| Failure::invalid(format!("{}: {error}", file.display())))?;
    let sealed = exporting::sealed(&text, &session.keyring, &certificate).map_err(at)?;
    match &args.out {
        Some(out) if out.exists() => Err(Failure::invalid(format!("`{}` is there already", out.display()))),
        Some(out) => files::write(out, &sealed),
        None => {
            print!("{sealed}");
            Ok(())
        }
    }
}

pub(crate) fn rotate(args: &Files, rekey: bool) -> Result<()> {
    let mut results = Vec::new();
    for file in files::expand(&args.files)? {
        let text = files::read(&file)?;
        let found = find_all(&text).map_err(|error| failed(&file, &error))?;
        if found.is_empty() {
            continue;
        }
        let session = Session::open(&file, &args.keyring)?;
        let change = if rekey { keys::rekey } else { keys::rotate };
        let new = change(&text, &session.sealing()).map_err(|error| failed(&file, &error))?;
        let removed = found.iter().any(|found| {
            let before = found.recipients().unwrap_or_default();
            !session.recipients.is_empty() && before.iter().any(|one| !session.recipients.contains(one))
        });
        results.push((file, text, new, removed));
    }
    // Nothing is written unless all can be.
    for (file, text, new, removed) in results {
        if text == new {
            eprintln!("{}: up to date", file.display());
            continue;
        }
        files::write(&file, &new)?;
        eprintln!(
            "{}: {}",
            file.display(),
            if rekey { "new data keys, all values sealed anew" } else { "recipients changed" }
        );
        if removed && !rekey {
            eprintln!(
                "hint: whoever was removed may have kept the data key and can go on opening what is sealed with it: \
                 `dodai secret rekey` ends that for what comes"
            );
        }
        if rekey {
            eprintln!(
                "hint: what git remembers stays readable to whoever held the old key: give the values themselves new ones \
                 if that matters"
            );
        }
    }
    Ok(())
}
