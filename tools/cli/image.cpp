// SPDX-License-Identifier: Apache-2.0
// salvage, image show|verify|join: what is left of a VM, as files.
#include "migrate/image/guest_image.hpp"
#include "tools/api_client.hpp"
#include "tools/cli/commands.hpp"
#include "tools/json.hpp"
#include "tools/quantities.hpp"

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

namespace wherry::tools {

namespace {

using migrate::ImageReader;

template <typename Bytes>
std::string hexadecimal(const Bytes& bytes) {
    std::string text;
    for (const std::byte byte : bytes) {
        text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
    }
    return text;
}

std::string extent_of(const ImageReader& image) {
    switch (image.description().extent) {
    case migrate::ImageExtent::whole:
        return "whole";
    case migrate::ImageExtent::source_half:
        return "source-half";
    case migrate::ImageExtent::destination_half:
        return "destination-half";
    }
    return "";
}

api::Image describe(const ImageReader& image) {
    const auto& from = image.description();
    api::Image into;
    into.set_file(image.name());
    into.set_extent(extent_of(image));
    into.set_vm_name(from.plan.vm_name);
    into.set_vm_id(from.plan.vm_id);
    into.set_epoch(static_cast<double>(from.epoch));
    into.set_migration_id(from.migration_id);
    into.set_arbiter(from.arbiter);
    into.set_hypervisor(from.plan.backend);
    into.set_memory_bytes(static_cast<double>(from.plan.config.memory.value()));
    into.set_vcpus(from.plan.config.vcpus);
    into.set_absent_bytes(static_cast<double>(formats::bytes_of(from.absent).value()));
    into.set_file_bytes(static_cast<double>(image.size().value()));
    into.set_sections(static_cast<std::uint32_t>(image.sections().size()));
    into.set_image_id(hexadecimal(image.id()));
    into.set_root_digest(hexadecimal(image.root()));
    into.set_written_at(static_cast<double>(from.written_at.time_since_epoch().count()));
    return into;
}

void print(const ImageReader& image) {
    const auto& is = image.description();
    fmt::print(
        "{}: {} of {} ({})\n", image.name(), name_of(is.extent), is.plan.vm_name, is.plan.vm_id);
    fmt::print(
        "  {} of RAM, {} vCPUs, from {}; epoch {}, written {:%F %T} UTC\n",
        format_bytes(static_cast<double>(is.plan.config.memory.value())),
        is.plan.config.vcpus,
        is.plan.backend,
        static_cast<std::uint64_t>(is.epoch),
        is.written_at);
    if (is.absent > formats::PageCount{0}) {
        fmt::print(
            "  {} of the memory are not in it\n",
            format_bytes(static_cast<double>(formats::bytes_of(is.absent).value())));
    }
    if (!is.migration_id.empty()) {
        fmt::print("  of migration {}, arbiter {}\n", is.migration_id, is.arbiter);
    }
    fmt::print(
        "  {} in {} sections, root sha256:{}\n",
        format_bytes(static_cast<double>(image.size().value())),
        image.sections().size(),
        hexadecimal(image.root()));
}

ExitCode salvage(const std::string& name, const std::string& file) {
    api::SalvageRequest request;
    request.set_file(std::filesystem::absolute(file).string());
    const auto vm = formats::then(ApiClient::connect_to(name), [&request](ApiClient client) {
        return client.salvage(request);
    });
    if (!vm) {
        return fail_with(vm.error());
    }
    fmt::print("{}: {}\n", name, vm->explanation());
    return ExitCode::done;
}

ExitCode show(const std::string& file, bool json) {
    const auto image = ImageReader::open(file);
    if (!image) {
        return fail_with(image.error());
    }
    if (json) {
        fmt::print("{}\n", to_json(describe(*image), JsonLayout::one_line));
    } else {
        print(*image);
    }
    return ExitCode::done;
}

ExitCode verify(const std::string& file, bool json) {
    auto image = ImageReader::open(file);
    if (!image) {
        return fail_with(image.error());
    }
    if (const auto good = image->verify(std::thread::hardware_concurrency()); !good) {
        return fail_with(good.error());
    }
    if (json) {
        fmt::print("{}\n", to_json(describe(*image), JsonLayout::one_line));
    } else {
        fmt::print("{}: every byte is right\n", file);
    }
    return ExitCode::done;
}

ExitCode join(const std::vector<std::string>& files) {
    auto source = ImageReader::open(files.at(0));
    auto destination = ImageReader::open(files.at(1));
    if (!source || !destination) {
        return fail_with(source ? destination.error() : source.error());
    }
    const auto joined = migrate::join_halves(*source, *destination, files.at(2), {});
    if (!joined) {
        return fail_with(joined.error());
    }
    fmt::print(
        "{0}: the guest as it is; to let it go on: wherry restore {0} --name NAME\n", files.at(2));
    return ExitCode::done;
}

void add_salvage(CLI::App& app, Action& action) {
    const auto names = std::make_shared<std::pair<std::string, std::string>>();
    auto* command = app.add_subcommand(
        "salvage",
        "Give a VM up whose memory is split between two hosts that lost each other in post-copy, "
        "and\n"
        "write this host's half. It never runs again from here. Say it on both hosts, then join "
        "the\n"
        "halves (wherry image join).\n"
        "Example: wherry salvage a source.wimg");
    command->add_option("name", names->first, "The VM on this host")->required();
    command->add_option("file", names->second, "The file to make")->required();
    command->callback([&action, names] {
        action = [names] {
            return salvage(names->first, names->second);
        };
    });
}

} // namespace

void add_images(CLI::App& app, Action& action) {
    add_salvage(app, action);
    struct Options {
        std::string file;
        std::vector<std::string> files;
        bool json = false;
    };
    const auto options = std::make_shared<Options>();
    auto* image = app.add_subcommand("image", "Look at images of VMs, and join halves of one");
    image->require_subcommand(1);

    auto* show_command =
        image->add_subcommand("show", "What is in an image. Example: wherry image show a.wimg");
    auto* verify_command = image->add_subcommand(
        "verify", "Check every byte of an image. Example: wherry image verify a.wimg");
    for (auto* command : {show_command, verify_command}) {
        command->add_option("file", options->file, "The image")->required();
        command->add_flag("--json", options->json, "One JSON object");
    }
    show_command->callback([&action, options] {
        action = [options] {
            return show(options->file, options->json);
        };
    });
    verify_command->callback([&action, options] {
        action = [options] {
            return verify(options->file, options->json);
        };
    });

    auto* join_command = image->add_subcommand(
        "join",
        "Make one image of both halves of a VM that was salvaged on both hosts of a migration.\n"
        "Example: wherry image join source.wimg destination.wimg a.wimg");
    join_command->add_option("files", options->files, "SOURCE DESTINATION OUT")
        ->required()
        ->expected(3);
    join_command->callback([&action, options] {
        action = [options] {
            return join(options->files);
        };
    });
}

} // namespace wherry::tools
