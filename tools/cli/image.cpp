// SPDX-License-Identifier: Apache-2.0
// salvage, image show|join: what is left of a VM, as files.
#include "migrate/image/guest_image.hpp"
#include "tools/api_client.hpp"
#include "tools/cli/commands.hpp"
#include "tools/cli/image_files.hpp"
#include "tools/json.hpp"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace wherry::tools {

namespace {

using migrate::ImageReader;

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

ExitCode show(const ImageQuestion& asked) {
    const auto image = open_for(asked);
    if (!image) {
        return fail_with(image.error());
    }
    print(*image, asked.is_json);
    return ExitCode::done;
}

struct Join {
    ImageQuestion halves; ///< with which key they are read
    std::vector<std::string> files;
    NewImage image;
};

ExitCode join(const Join& wanted) {
    const auto access = access_of(wanted.halves);
    if (!access) {
        return fail_with(access.error());
    }
    const auto options = options_of(wanted.image);
    if (!options) {
        return fail_with(options.error());
    }
    auto source = ImageReader::open(wanted.files.at(0), *access);
    auto destination = ImageReader::open(wanted.files.at(1), *access);
    if (!source || !destination) {
        return fail_with(source ? destination.error() : source.error());
    }
    const auto& out = wanted.files.at(2);
    const auto joined = migrate::join_halves(*source, *destination, out, *options);
    if (!joined) {
        return fail_with(joined.error());
    }
    fmt::print("{0}: the guest as it is; to let it go on: wherry restore {0} --name NAME\n", out);
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
    const auto asked = std::make_shared<ImageQuestion>();
    auto* image =
        app.add_subcommand("image", "Look at images of VMs, copy them, join halves of one");
    image->require_subcommand(1);

    auto* show_command =
        image->add_subcommand("show", "What is in an image. Example: wherry image show a.wimg");
    show_command->add_option("file", asked->file, "The image")->required();
    add_question(*show_command, *asked);
    show_command->callback([&action, asked] {
        action = [asked] {
            return show(*asked);
        };
    });
    add_chains(*image, action, asked);

    const auto joined = std::make_shared<Join>();
    auto* join_command = image->add_subcommand(
        "join",
        "Make one image of both halves of a VM that was salvaged on both hosts of a migration.\n"
        "Example: wherry image join source.wimg destination.wimg a.wimg");
    join_command->add_option("files", joined->files, "SOURCE DESTINATION OUT")
        ->required()
        ->expected(3);
    join_command->add_option(
        "--key", joined->halves.key, "The key file of halves that are encrypted");
    add_new_image(*join_command, joined->image);
    join_command->callback([&action, joined] {
        action = [joined] {
            return join(*joined);
        };
    });
}

} // namespace wherry::tools
