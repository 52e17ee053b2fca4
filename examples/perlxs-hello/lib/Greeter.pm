package Greeter;

use strict;
use warnings;

our $VERSION = '0.1.0'; # as in Cargo.toml

require XSLoader;
XSLoader::load(__PACKAGE__, $VERSION);
# The boot function is Rust's, which no exception may cross. This brings the methods, or refuses
# a perl or a version that the library is not for.
__PACKAGE__->can('_install')->(__PACKAGE__, $VERSION);

# An object belongs to the thread that made it.
sub CLONE_SKIP { return 1 }

1;
