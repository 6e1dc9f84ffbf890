// SPDX-License-Identifier: Apache-2.0
// run, receive and restore: this process becomes the VMM instance.
#include "tools/cli/commands.hpp"
#include "tools/cli/image_files.hpp"
#include "tools/instance/instance.hpp"
#include "tools/quantities.hpp"
#include "transport/endpoint.hpp"

#include <filesystem>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

namespace wherry::tools {

namespace {

using formats::Result;

struct Options {
    std::string name;
    std::string memory = "512M";
    std::uint32_t cpus = 1;
    std::string cpu = "host";
    std::string kernel;
    std::string initrd;
    std::string command_line;
    std::string serial = "stdout";
    std::string hypervisor = "auto";
    bool paused = false;
    std::string image;
    bool lazy = false;
    std::string prefetch = "on";
    unsigned clones = 0;
    ImageQuestion images; ///< keys and the like
    bool as_of_switch = false;
    bool no_arbiter = false;
    std::string listen;
    std::string tls;
    bool insecure = false;
};

ExitCode usage_error(const formats::Error& error) {
    print_error(error);
    return ExitCode::usage;
}

Result<vmm::MachineHost> host_from(const Options& options) {
    const auto choice = vmm::hypervisor_from(options.hypervisor);
    if (!choice) {
        return formats::fail(choice.error());
    }
    return vmm::MachineHost{.hypervisor = *choice, .serial = options.serial};
}

ExitCode run(const Options& options) {
    const auto memory = parse_size(options.memory);
    if (!memory) {
        return usage_error(memory.error());
    }
    const auto host = host_from(options);
    if (!host) {
        return usage_error(host.error());
    }
    const auto cpu = vmm::cpu_profile_from(options.cpu);
    if (!cpu) {
        return usage_error(cpu.error());
    }
    RunOptions request{
        .name = options.name,
        .config = {.memory = *memory, .vcpus = options.cpus, .cpuid = {}},
        .cpu = *cpu,
        .host = *host,
        .boot =
            {.kernel = options.kernel,
             .initrd = options.initrd,
             .command_line = options.command_line},
        .start = options.paused ? StartState::paused : StartState::running};
    return run_instance(request);
}

ExitCode receive(const Options& options) {
    const auto host = host_from(options);
    if (!host) {
        return usage_error(host.error());
    }
    const auto listen = transport::Endpoint::parse(options.listen);
    if (!listen) {
        return usage_error(listen.error());
    }
    ReceiveOptions request{
        .name = options.name,
        .host = *host,
        .listen = *listen,
        // For the VM's journal, which is read by processes that are started elsewhere.
        .tls_directory =
            options.tls.empty() ? "" : std::filesystem::absolute(options.tls).string()};
    return receive_instance(request);
}

ExitCode restore(const Options& options) {
    const auto host = host_from(options);
    if (!host) {
        return usage_error(host.error());
    }
    const bool is_lazy = options.lazy || options.clones > 0;
    const bool is_streamed = options.image == "-";
    if (is_streamed && is_lazy) {
        return usage_error(
            {formats::ErrorCode::invalid_argument,
             "a stream is read from its beginning to its end: --lazy and --clone take a file"});
    }
    auto access = access_of(options.images);
    if (!access) {
        return fail_with(access.error());
    }
    const RestoreOptions request{
        .name = options.name,
        .host = *host,
        // For its process has it for longer than this directory may be called so.
        .image = is_streamed ? options.image : std::filesystem::absolute(options.image).string(),
        .access = *std::move(access),
        .bases = options.images.bases,
        .start = options.paused ? StartState::paused : StartState::running,
        .memory = !is_lazy                   ? RestoreMemory::now
                  : options.prefetch == "on" ? RestoreMemory::ahead
                                             : RestoreMemory::late,
        .as_of_switch = options.as_of_switch,
        .arbiter = options.no_arbiter ? AskArbiter::no : AskArbiter::yes};
    return options.clones > 0 ? restore_clones(request, options.clones) : restore_instance(request);
}

CLI::Option* add_host_options(CLI::App& command, Options& options) {
    auto* name = command.add_option("--name", options.name, "The VM's name on this host");
    command.add_option(
        "--serial", options.serial, "Where its serial output goes: stdout, file:PATH, none");
    command.add_option(
        "--hypervisor", options.hypervisor, "auto, " + std::string{vmm::hypervisor_names()});
    return name;
}

void add_restore(CLI::App& app, Action& action, const std::shared_ptr<Options>& options) {
    auto* command = app.add_subcommand(
        "restore",
        "Let the guest of an image go on in this process. That of a snapshot becomes a new VM; "
        "what\n"
        "was salvaged is the VM, and must not run anywhere else.\n"
        "Example: wherry restore a.wimg --lazy --serial file:a.log\n"
        "         wherry restore a.wimg --clone 3 --name b --serial file:%n.log");
    auto* image = command->add_option("image", options->image, "The image; - is standard input");
    image->required()->check(CLI::ExistingFile | CLI::IsMember({"-"}));
    add_host_options(*command, *options)->description("The VM's name on this host (the image's)");
    add_access(*command, options->images);
    command->add_flag("--paused", options->paused, "Wait for `wherry resume`");
    auto* lazy = command->add_flag(
        "--lazy",
        options->lazy,
        "Run at once: memory comes out of the image as it is touched. The image must stay as it "
        "is\n"
        "until `wherry status` says that all of it is here");
    auto* clones = command
                       ->add_option(
                           "--clone",
                           options->clones,
                           "Make so many new VMs of it, NAME-1, NAME-2..., each in a process of "
                           "its own, lazily")
                       ->check(CLI::Range(1, 1000));
    command
        ->add_option(
            "--prefetch",
            options->prefetch,
            "Lazily: fetch what nobody waits for as well: on (default), off")
        ->check(CLI::IsMember({"on", "off"}));
    clones->excludes(lazy);
    auto* as_of_switch = command->add_flag(
        "--as-of-switch",
        options->as_of_switch,
        "Of the source's half alone: the guest as it was at the switch to post-copy. The "
        "destination\n"
        "must never run it again");
    as_of_switch->excludes(clones);
    command->add_flag(
        "--no-arbiter",
        options->no_arbiter,
        "Do not ask the shared arbiter that the VM's migration had");
    command->callback([&action, options] {
        action = [options] {
            return restore(*options);
        };
    });
}

} // namespace

void add_run_and_receive(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();

    auto* run_command = app.add_subcommand(
        "run",
        "Start a VM in this process, in the foreground until it ends or has moved away.\n"
        "Example: wherry run --name a --memory 2G --kernel vmlinuz --initrd initrd.img \\\n"
        "           --cmdline \"console=ttyS0\" --serial file:a.log\n"
        "With --cpu host the guest has all that this host and its hypervisor offer, and moves to\n"
        "hosts with the same hypervisor. With --cpu portable it has what both kvm and mshv keep,\n"
        "and moves from one to the other; it loses the hypervisor's own interfaces (clock, steal\n"
        "time), so that Linux needs tsc_early_khz=KHZ in --cmdline.\n"
        "A VM that had come here by `wherry receive` is booted again, and listens where it did\n"
        "for the host that it came from, if that has not heard that the VM is here.");
    add_host_options(*run_command, *options)->required();
    run_command->add_option("--memory", options->memory, "RAM, a multiple of 2M (512M)");
    run_command->add_option("--cpus", options->cpus, "vCPUs (1)")->check(CLI::Range(1, 4));
    run_command->add_option(
        "--cpu",
        options->cpu,
        "What the guest sees: host (default), portable. Cannot be changed later");
    run_command->add_option("--kernel", options->kernel, "A PVH ELF, vmlinux or bzImage")
        ->required()
        ->check(CLI::ExistingFile);
    run_command->add_option("--initrd", options->initrd, "Initial RAM disk")
        ->check(CLI::ExistingFile);
    run_command->add_option("--cmdline", options->command_line, "The kernel's command line");
    run_command->add_flag("--paused", options->paused, "Wait for `wherry resume`");
    run_command->callback([&action, options] {
        action = [options] {
            return run(*options);
        };
    });

    add_restore(app, action, options);

    auto* receive_command = app.add_subcommand(
        "receive",
        "Wait for a VM that `wherry migrate` sends here, then run it in this process.\n"
        "Example: wherry receive --name b --listen 0.0.0.0:7461 --tls pki --serial file:b.log");
    add_host_options(*receive_command, *options)->required();
    receive_command->add_option("--listen", options->listen, "host:port to listen on")->required();
    auto* tls = receive_command->add_option(
        "--tls", options->tls, "Directory with ca-cert.pem, server-cert.pem, server-key.pem");
    receive_command
        ->add_flag(
            "--insecure", options->insecure, "Plain TCP: anyone who can connect can put a VM here")
        ->excludes(tls);
    receive_command->callback([&action, options] {
        if (options->tls.empty() && !options->insecure) {
            throw CLI::RequiredError("--tls DIR (or --insecure)");
        }
        action = [options] {
            return receive(*options);
        };
    });
}

} // namespace wherry::tools
