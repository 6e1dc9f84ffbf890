// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/touch_order_file.hpp"

#include "formats/touch_order.hpp"
#include "migrate/image/image_file.hpp"
#include "migrate/ownership/disk.hpp"

#include <tuple>
#include <utility>

#include <fmt/format.h>

#include <unistd.h>

namespace wherry::migrate {

using formats::fail;
using formats::Status;

namespace {

formats::Result<std::unique_ptr<Directory>> directory_of(const std::filesystem::path& file) {
    return open_directory(
        file.has_parent_path() ? file.parent_path() : std::filesystem::path{"."},
        DirectoryUse::shared);
}

} // namespace

std::filesystem::path touch_order_path(const std::filesystem::path& image) {
    return image.string() + ".order";
}

std::vector<std::uint32_t>
read_touch_order(const std::filesystem::path& image, const formats::ImageDigest& root) {
    const auto file = open_image(touch_order_path(image));
    if (!file || (*file)->size() > formats::Bytes{formats::touch_order_limit}) {
        return {};
    }
    std::vector<std::byte> bytes((*file)->size().value());
    if (!(*file)->read(formats::Bytes{0}, bytes)) {
        return {};
    }
    auto order = formats::decode_touch_order(bytes);
    if (!order || order->root != root) {
        return {};
    }
    return std::move(order->chunks);
}

Status write_touch_order(
    const std::filesystem::path& image,
    const formats::ImageDigest& root,
    std::span<const std::uint32_t> chunks) {
    const auto path = touch_order_path(image);
    const auto directory = directory_of(path);
    if (!directory) {
        return fail(directory.error());
    }
    const auto name = path.filename().string();
    const auto temporary = fmt::format("{}.{}.new", name, ::getpid());
    auto done = (*directory)->remove(temporary); // of a process that was killed and had this number
    if (!done) {
        return done;
    }
    const auto file = (*directory)->create(temporary);
    if (!file) {
        return fail(file.error());
    }
    const auto bytes =
        formats::encode_touch_order({.root = root, .chunks = {chunks.begin(), chunks.end()}});
    // Synced first, so that what a rename puts in place of a good file is not an empty one.
    done =
        formats::then(formats::then((*file)->append(bytes), [&] { return (*file)->sync(); }), [&] {
            return (*directory)->rename(temporary, name);
        });
    if (!done) {
        std::ignore = (*directory)->remove(temporary); // the first failure is the one to tell
    }
    return done;
}

} // namespace wherry::migrate
