// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/image_files.hpp"

#include "formats/error_message.hpp"
#include "formats/hexadecimal.hpp"
#include "formats/zstd_frame.hpp"
#include "tools/json.hpp"
#include "tools/quantities.hpp"

#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace wherry::tools {

namespace {

std::string extent_of(const migrate::ImageReader& image) {
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

} // namespace

api::Image describe(const migrate::ImageReader& image) {
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
    into.set_image_id(formats::hexadecimal(image.id()));
    into.set_root_digest(formats::hexadecimal(image.root()));
    into.set_written_at(static_cast<double>(from.written_at.time_since_epoch().count()));
    const auto& outline = image.outline();
    for (const auto* names :
         {&outline.header.critical_features, &outline.header.optional_features}) {
        for (const auto& name : *names) {
            into.add_features(formats::sanitised(name, formats::image_feature_name_limit));
        }
    }
    if (const auto& base = outline.header.base) {
        into.set_base_file(formats::sanitised(base->file, formats::image_file_name_limit));
        into.set_base_root(formats::hexadecimal(base->root));
    }
    if (const auto& signature = outline.trailer.signature) {
        into.set_signer(formats::hexadecimal(signature->signer));
    }
    return into;
}

void print(const migrate::ImageReader& image, bool is_json) {
    if (is_json) {
        fmt::print("{}\n", to_json(describe(image), JsonLayout::one_line));
        return;
    }
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
        formats::hexadecimal(image.root()));
    const api::Image more = describe(image);
    if (more.features_size() > 0) {
        fmt::print("  {}\n", fmt::join(more.features(), ", "));
    }
    if (!more.base_file().empty()) {
        fmt::print("  based on {}, root sha256:{}\n", more.base_file(), more.base_root());
    }
    if (!more.signer().empty()) {
        fmt::print("  signed by sha256:{}; --trust checks that\n", more.signer());
    }
}

void add_access(CLI::App& command, ImageQuestion& into) {
    command.add_option("--key", into.key, "The key file of an image that is encrypted");
    command.add_option(
        "--trust", into.trust, "PUB.pem: refuse it unless it is signed with this Ed25519 key");
    command.add_option(
        "--bases", into.bases, "Where base images are, if not beside the one based on them");
}

void add_question(CLI::App& command, ImageQuestion& into) {
    add_access(command, into);
    command.add_flag("--json", into.is_json, "One JSON object");
}

void add_new_image(CLI::App& command, NewImage& into) {
    command
        .add_option(
            "--layout", into.layout, "zstd (compressed in small chunks) or raw (as memory is)")
        ->check(CLI::IsMember({"zstd", "raw"}))
        ->capture_default_str();
    command.add_option("--level", into.level, "Of zstd: higher is smaller, and slower")
        ->check(CLI::Range(formats::zstd_lowest_level, formats::zstd_highest_level))
        ->capture_default_str();
    command.add_option(
        "--encrypt", into.key, "KEYFILE: 32 bytes or 64 hexadecimal digits (openssl rand -hex 32)");
    command.add_option(
        "--sign", into.signing_key, "KEY.pem: an Ed25519 key (openssl genpkey -algorithm ed25519)");
}

formats::Result<migrate::ImageAccess> access_of(const ImageQuestion& asked) {
    migrate::ImageAccess access;
    if (!asked.key.empty()) {
        auto key = migrate::read_key_file(asked.key);
        if (!key) {
            return formats::fail(std::move(key).error());
        }
        access.key = *std::move(key);
    }
    if (!asked.trust.empty()) {
        auto trusted = migrate::read_trusted_key(asked.trust);
        if (!trusted) {
            return formats::fail(std::move(trusted).error());
        }
        access.trusted = *std::move(trusted);
    }
    return access;
}

formats::Result<migrate::ImageReader> open_for(const ImageQuestion& asked) {
    return formats::then(access_of(asked), [&asked](migrate::ImageAccess access) {
        access.place = migrate::ChainPlace::youngest;
        return migrate::ImageReader::open(asked.file, access);
    });
}

formats::Result<migrate::ImageChain>
open_chain_for(const ImageQuestion& asked, const std::string& file) {
    return formats::then(access_of(asked), [&](const migrate::ImageAccess& access) {
        return migrate::ImageChain::open(file, access, asked.bases);
    });
}

} // namespace wherry::tools
