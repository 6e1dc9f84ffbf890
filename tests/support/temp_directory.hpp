// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>

#include <doctest/doctest.h>

namespace wherry::tests {

/// A directory that is gone at the end of the test.
class TempDirectory {
public:
    TempDirectory() {
        auto name = (std::filesystem::temp_directory_path() / "wherry-test-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~TempDirectory() {
        std::error_code gone_already;
        std::filesystem::remove_all(path_, gone_already);
    }
    TempDirectory(const TempDirectory&) = delete;
    TempDirectory& operator=(const TempDirectory&) = delete;
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

} // namespace wherry::tests
