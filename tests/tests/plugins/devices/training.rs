//! Encoders that learn on a device.

use super::{CLIP, FEATURES, FIRST, alone, encoder, library, pretend};
use crate::SIGLIP;
use merv_host::plugin::Copies;
use merv_plugin_api::{
    Clips, CollectiveOperation, CollectiveRequest, PluginError, Ranges, Reduction, StatePart,
    TensorView, TrainingOptions,
};
use merv_tests::{TrainingRun, chain, plugin_folder, read, tiny_with_one_encoder};
use std::{thread, time::Duration};

/// An encoder that is trained on its device learns what it learns on the CPU.
#[test]
fn an_encoder_learns_on_its_device() {
    let plugins = plugin_folder(&["pretend-device"]);
    let learned = |device: &str| {
        let tiny = tiny_with_one_encoder();
        let entry =
            format!("id = \"pretend-encoder\"\nplugin = \"pretend-device\"\ndevice = \"{device}\"");
        tiny.replace("registry.toml", SIGLIP, &entry);
        let run = TrainingRun::new("full-finetune")
            .arg("--registry")
            .arg(tiny.registry().display().to_string())
            .arg("--plugin-dir")
            .arg(plugins.path().display().to_string())
            .set("epochs", 9)
            .set("max_steps", 3)
            .set("learning_rate", 1e-2);
        run.run().finish().succeeded();
        let name = "encoder-pretend-encoder.safetensors";
        let scale = read(&run.checkpoint(3).join(name));
        (run.curve("loss"), scale.get("scale.weight").values.clone())
    };
    let (cpu, device) = (learned("cpu"), learned("ext:0"));
    assert_eq!(device, cpu);
    assert_eq!(device.0.len(), 3);
    assert!(device.1.iter().any(|&factor| factor != 1.0));
}

#[test]
fn an_encoder_without_weights_is_not_trained() {
    let plugins = plugin_folder(&["pretend-device"]);
    let tiny = tiny_with_one_encoder();
    let entry = "id = \"pretend-encoder\"\nplugin = \"pretend-device\"";
    tiny.replace("registry.toml", SIGLIP, entry);
    let text = std::fs::read_to_string(tiny.registry()).unwrap();
    let (head, encoder) = text.split_once("[[encoders]]").unwrap();
    let lines = encoder.lines();
    let mut is_entry = true;
    let kept: Vec<&str> = lines
        .filter(|line| {
            is_entry &= !line.starts_with('[');
            !(is_entry && (line.starts_with("weights") || line.starts_with("config")))
        })
        .collect();
    let text = format!("{head}[[encoders]]{}\n", kept.join("\n"));
    std::fs::write(tiny.registry(), text).unwrap();
    let run = TrainingRun::new("full-finetune")
        .arg("--registry")
        .arg(tiny.registry().display().to_string())
        .arg("--plugin-dir")
        .arg(plugins.path().display().to_string())
        .set("max_steps", 1);
    for run in [run.run().arg("--dry-run"), run.run()] {
        let words = ["`pretend-encoder` reads no weights", "--stage finetune"];
        run.finish().failed(1, &words);
    }
}

/// Gradients on a device are summed over the members of a group that takes tensors in main memory only.
#[test]
fn gradients_on_a_device_are_staged_through_main_memory() {
    let _alone = alone();
    let groups = library("test_plugin_thread_group");
    let timeout = Duration::from_secs(60);
    let member = |rank: u32| {
        let request = CollectiveRequest::new("threads").member(rank, 2);
        let request = request.rendezvous("device gradients").timeout(timeout);
        let group = groups.join_collective(&request).unwrap();
        let encoder = encoder(FIRST);
        let training = encoder.training().unwrap();
        training.begin(&TrainingOptions::new(true)).unwrap();
        let pixels = vec![0.5f32; (CLIP / 4) as usize];
        let clips = TensorView::new(&pixels, &[1, 2, 3, 64, 64]).unwrap();
        let (features, tape) = encoder.forward_train(&Clips::new(clips)).unwrap();
        let gradient = vec![1.0 + rank as f32; (FEATURES / 4) as usize];
        let gradient = TensorView::new(&gradient, features.shape()).unwrap();
        tape.backward(gradient, &mut |_| Ok(())).unwrap();
        // The counts are those of the process: both members read them while neither copies.
        group.barrier(timeout).unwrap();
        let before = Copies::so_far();
        let sum = CollectiveOperation::all_reduce(Reduction::SUM);
        group.barrier(timeout).unwrap();
        let visited = training.visit(StatePart::GRADIENT, Ranges::All, &mut |_, view| {
            assert_eq!(view.view().device(), FIRST);
            let run = group.run(sum, view, pretend().devices(), timeout);
            run.map_err(|error| PluginError::invalid(chain(&error)))
        });
        visited.unwrap();
        group.barrier(timeout).unwrap();
        let after = Copies::so_far();
        let squares = training.gradient_squares(Ranges::All).unwrap();
        let copies = [
            after.to_main.count - before.to_main.count,
            after.to_device.count - before.to_device.count,
        ];
        (squares, copies)
    };
    let results = thread::scope(|scope| {
        let member = &member;
        let threads = [0, 1].map(|rank| scope.spawn(move || member(rank)));
        threads.map(|thread| thread.join().unwrap())
    });
    // Each of 128 tokens adds half of the gradient, 1 and 2, to each of 64 factors.
    let sum = 128.0 * 0.5 * 3.0;
    for (squares, copies) in results {
        assert_eq!(squares, 64.0 * sum * sum);
        assert_eq!(copies, [2, 2], "one copy of each member in each direction");
    }
}
