/// Runs everything, whole worlds first, until all is done or we are interrupted.
fn run_all(bench: &Bench, arguments: &Arguments, selected: &[Known]) -> Result<Summary, String> {
    let started = Instant::now();
    let with_twins = !arguments.no_twins && arguments.sabotage.is_none();
    let twins: Vec<_> = selected
        .iter()
        .flat_map(|known| known.twins.iter().map(move |twin| (known, twin)))
        .filter(|_| with_twins)
        .collect();
    interruption::catch()?;
    let bar = progress_bar(selected.len() + twins.len());
    let mut summary = Summary {
        rows: Vec::new(),
        twins: Vec::new(),
        qemu: bench.qemu.version.clone(),
        accelerator: bench.settings.accelerator,
        cpus: bench.settings.cpus,
        seed: arguments.seed,
        sabotage: arguments.sabotage,
        demand: arguments.demand,
        models: Models::default(),
        unfinished: Vec::new(),
        elapsed: Duration::ZERO,
    };
    // What was running when an interruption came is not a result.
    for known in selected {
        bar.set_message(known.name.clone());
        let row = (!interruption::is_here()).then(|| run_one(bench, arguments, known));
        match row {
            Some(row) if !interruption::is_here() => summary.rows.push(row),
            _ => summary.unfinished.push(known.name.clone()),
        }
        bar.inc(1);
    }
    for (known, twin) in twins {
        let title = format!("{} with {}", known.name, twin.sabotage);
        bar.set_message(title.clone());
        let result = (!interruption::is_here()).then(|| run_twin(bench, arguments, known, twin));
        match result {
            Some(result) if !interruption::is_here() => summary.twins.push(result),
            _ => summary.unfinished.push(title),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    summary.elapsed = started.elapsed();
    if !arguments.no_models && !interruption::is_here() {
        let command = arguments.model_check.as_deref();
        summary.models = models::ask(&mut summary.rows, command, arguments.sabotage);
    }
    Ok(summary)
}

fn progress_bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    let style = ProgressStyle::with_template("{spinner} {pos}/{len} {elapsed} {msg}");
    bar.set_style(style.expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Boots one machine, and gives the verdict and a command that does so again.
fn boot(
    bench: &Bench,
    settings: &Settings,
    seed: u64,
    known: &Known,
    repeat: u64,
    sabotage: Option<&str>,
) -> (Request, Verdict, String) {
    let repetitions = if known.self_test { 1 } else { repeat };
    let request = Request { name: known.name.clone(), repetitions };
    let what = if known.self_test { argument::SELF_TEST } else { argument::SCENARIO };
    let mut command_line = format!("{what}={}", request.name);
    for (key, value) in [(argument::REPEAT, repetitions), (argument::SEED, seed)] {
        command_line += &format!(" {key}={value}");
    }
    let mut again = format!("just qemu {} --cpus {}", request.name, settings.cpus);
    again += &format!(" --repeat {repetitions} --seed {seed}");
    if settings.accelerator == Accelerator::Counted {
        again += " --deterministic";
    }
    if let Some(sabotage) = sabotage {
        command_line += &format!(" {}={sabotage}", argument::SABOTAGE);
        again += &format!(" --sabotage {sabotage}");
    }
    let verdict = match machine::run(&bench.qemu, &bench.image, settings, &command_line) {
        Ok(run) => verdict::of(&request, &run),
        Err(sentence) => Verdict::without_run(sentence),
    };
    (request, verdict, again)
}

fn run_one(bench: &Bench, arguments: &Arguments, known: &Known) -> Row {
    let sabotage = arguments.sabotage.map(|sabotage| sabotage.to_string());
    let sabotage = sabotage.as_deref();
    let (request, verdict, again) =
        boot(bench, &bench.settings, arguments.seed, known, arguments.repeat, sabotage);
    let places = places(&bench.image, verdict.failure.as_ref());
    Row { request, self_test: known.self_test, verdict, places, again }
}

/// Boots a broken world. It is tried more often than a whole one, since it ends at the first
/// failure; and as reproducibly as possible, so that a world that is noticed today is tomorrow.
fn run_twin(bench: &Bench, arguments: &Arguments, known: &Known, twin: &KnownTwin) -> Twin {
    let settings = Settings { accelerator: Accelerator::Counted, ..bench.settings.clone() };
    let repeat = arguments.repeat.saturating_mul(TWIN_REPEAT_FACTOR);
    let sabotage = Some(twin.sabotage.as_str());
    let (request, verdict, again) = boot(bench, &settings, arguments.seed, known, repeat, sabotage);
    Twin {
        name: request.name,
        sabotage: twin.sabotage.clone(),
        messages: twin.messages.clone(),
        verdict,
        again,
    }
}

/// Where processors were when it went wrong, in words.
fn places(image: &Path, failure: Option<&Failure>) -> Vec<String> {
    let lines = |names: Vec<String>| names.join("\n    in ");
    match failure {
        Some(Failure::Hang(places)) => {
            let describe = |place: &verdict::Place| {
                let interrupts = if place.interruptible { "on" } else { "off" };
                let names = lines(symbols::names(image, place.rip));
                format!("processor {}, interrupts {interrupts}: {names}", place.cpu)
            };
            places.iter().map(describe).collect()
        }
        Some(Failure::Violation { message, .. }) => {
            let names = symbols::names_in(image, message);
            if names.is_empty() { Vec::new() } else { vec![format!("in {}", lines(names))] }
        }
        _ => Vec::new(),
    }
}
