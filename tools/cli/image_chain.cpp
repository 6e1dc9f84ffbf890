// SPDX-License-Identifier: Apache-2.0
// image verify|ls-chain|diff|flatten|convert: images and what they are based on.
#include "migrate/image/image_copy.hpp"
#include "migrate/image/image_difference.hpp"
#include "tools/cli/image_files.hpp"
#include "tools/json.hpp"
#include "tools/quantities.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace wherry::tools {

namespace {

/// Whether it can be verified from outside only.
formats::Result<bool> is_closed(const ImageQuestion& asked) {
    if (!asked.key.empty()) {
        return false;
    }
    auto source = migrate::open_image(asked.file);
    if (!source) {
        return formats::fail(std::move(source).error());
    }
    const auto outline = migrate::read_outline(**source, {});
    if (!outline) {
        return formats::fail(formats::Error{outline.error()}.during(asked.file));
    }
    return outline->is_encrypted();
}

ExitCode verify_closed(const ImageQuestion& asked) {
    const auto access = access_of(asked);
    if (!access) {
        return fail_with(access.error());
    }
    auto source = migrate::open_image(asked.file);
    if (!source) {
        return fail_with(source.error());
    }
    if (const auto good = migrate::check_digests(**source, *access); !good) {
        return fail_with(good.error());
    }
    if (asked.is_json) {
        api::Image shown;
        shown.set_file(asked.file);
        shown.set_file_bytes(static_cast<double>((*source)->size().value()));
        fmt::print("{}\n", to_json(shown, JsonLayout::one_line));
    } else {
        fmt::print(
            "{}: every byte is right by its digest; with --key what is inside is looked at too\n",
            asked.file);
    }
    return ExitCode::done;
}

ExitCode verify(const ImageQuestion& asked) {
    const auto closed = is_closed(asked);
    if (!closed) {
        return fail_with(closed.error());
    }
    if (*closed) {
        return verify_closed(asked);
    }
    auto chain = open_chain_for(asked, asked.file);
    if (!chain) {
        return fail_with(chain.error());
    }
    if (const auto good = chain->verify(std::thread::hardware_concurrency()); !good) {
        return fail_with(good.error());
    }
    if (asked.is_json) {
        fmt::print("{}\n", to_json(describe(chain->image()), JsonLayout::one_line));
    } else if (chain->images().size() == 1) {
        fmt::print("{}: every byte is right\n", asked.file);
    } else {
        fmt::print(
            "{}: every byte of it and of the {} it is based on is right\n",
            asked.file,
            chain->images().size() - 1);
    }
    return ExitCode::done;
}

ExitCode list_chain(const ImageQuestion& asked) {
    const auto chain = open_chain_for(asked, asked.file);
    if (!chain) {
        return fail_with(chain.error());
    }
    api::ImageChain listed;
    for (const auto& image : chain->images()) {
        *listed.add_images() = describe(image);
        if (!asked.is_json) {
            print(image, false);
        }
    }
    if (asked.is_json) {
        fmt::print("{}\n", to_json(listed, JsonLayout::one_line));
    }
    return ExitCode::done;
}

ExitCode diff(const ImageQuestion& asked, const std::string& other_file) {
    constexpr int shown_runs = 20;
    auto one = open_chain_for(asked, asked.file);
    auto other = open_chain_for(asked, other_file);
    if (!one || !other) {
        return fail_with(one ? other.error() : one.error());
    }
    const auto found = migrate::compare_images(*one, *other);
    if (!found) {
        return fail_with(found.error());
    }
    api::ImageDifference difference;
    difference.set_file(asked.file);
    difference.set_other_file(other_file);
    difference.set_pages(static_cast<double>(found->of.value()));
    difference.set_differing_pages(static_cast<double>(found->pages.count().value()));
    difference.set_state_differs(!found->has_same_state);
    found->pages.for_each_run(found->of, [&difference](formats::PageRange run) {
        auto& added = *difference.add_runs();
        added.set_first_page(static_cast<double>(run.first().value()));
        added.set_pages(static_cast<double>(run.count().value()));
    });
    if (asked.is_json) {
        fmt::print("{}\n", to_json(difference, JsonLayout::one_line));
        return ExitCode::done;
    }
    fmt::print(
        "{} of {} pages differ ({}), in {} runs; the state {}\n",
        found->pages.count().value(),
        found->of.value(),
        format_bytes(static_cast<double>(formats::bytes_of(found->pages.count()).value())),
        difference.runs_size(),
        found->has_same_state ? "is the same" : "differs");
    for (int at = 0; at < std::min(difference.runs_size(), shown_runs); ++at) {
        const auto& run = difference.runs(at);
        const auto first = static_cast<std::uint64_t>(run.first_page());
        const auto count = static_cast<std::uint64_t>(run.pages());
        fmt::print("  {:#x} to {:#x}\n", first, first + count - 1);
    }
    if (difference.runs_size() > shown_runs) {
        fmt::print("  and {} more (--json has all)\n", difference.runs_size() - shown_runs);
    }
    return ExitCode::done;
}

using Copy = std::function<formats::Status(
    migrate::ImageChain&, const std::filesystem::path&, const migrate::ImageOptions&)>;

ExitCode copy(
    const ImageQuestion& asked, const std::string& file, const NewImage& wanted, const Copy& make) {
    const auto options = options_of(wanted);
    if (!options) {
        return fail_with(options.error());
    }
    auto chain = open_chain_for(asked, asked.file);
    if (!chain) {
        return fail_with(chain.error());
    }
    if (const auto made = make(*chain, file, *options); !made) {
        return fail_with(made.error());
    }
    ImageQuestion shown;
    shown.file = file;
    shown.key = wanted.key;
    const auto image = open_for(shown);
    if (!image) {
        return fail_with(image.error());
    }
    print(*image, asked.is_json);
    return ExitCode::done;
}

void add_copy(
    CLI::App& image,
    Action& action,
    const std::shared_ptr<ImageQuestion>& asked,
    const std::string& name,
    const std::string& about,
    const Copy& make) {
    const auto out = std::make_shared<std::string>();
    const auto wanted = std::make_shared<NewImage>();
    auto* command = image.add_subcommand(name, about);
    command->add_option("file", asked->file, "The image")->required();
    command->add_option("out", *out, "The file to make")->required();
    add_question(*command, *asked);
    add_new_image(*command, *wanted);
    command->callback([&action, asked, out, wanted, make] {
        action = [asked, out, wanted, make] {
            return copy(*asked, *out, *wanted, make);
        };
    });
}

} // namespace

void add_chains(CLI::App& image, Action& action, const std::shared_ptr<ImageQuestion>& asked) {
    const auto add = [&](const std::string& name, const std::string& about, auto call) {
        auto* command = image.add_subcommand(name, about);
        command->add_option("file", asked->file, "The image")->required();
        add_question(*command, *asked);
        command->callback([&action, asked, call] {
            action = [asked, call] {
                return call(*asked);
            };
        });
        return command;
    };
    add("verify",
        "Check every byte of an image and of what it is based on; of one that is encrypted without "
        "--key,\n"
        "its own digests. Example: wherry image verify a.wimg",
        &verify);
    add("ls-chain",
        "The image and all that it is based on, the oldest first. Example: wherry image ls-chain "
        "c.wimg",
        &list_chain);
    const auto other = std::make_shared<std::string>();
    add("diff",
        "How many pages of two images differ, and which. Example: wherry image diff a.wimg b.wimg",
        [other](const ImageQuestion& question) { return diff(question, *other); })
        ->add_option("other", *other, "The other image")
        ->required();
    add_copy(
        image,
        action,
        asked,
        "flatten",
        "Make one image of one that is based on others.\n"
        "Example: wherry image flatten c.wimg whole.wimg",
        &migrate::flatten);
    add_copy(
        image,
        action,
        asked,
        "convert",
        "Write an image anew, in another layout, encrypted or signed; its base stays.\n"
        "Example: wherry image convert a.wimg b.wimg --layout raw --encrypt KEYFILE",
        &migrate::convert);
}

} // namespace wherry::tools
