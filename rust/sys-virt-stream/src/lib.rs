//! What Perl loads: all layers in one shared library, and the one function that is
//! seen from outside.

#![allow(non_snake_case)] // the name that perl's loader asks for

perlxs::sys::boot!(boot_Sys__Virt__Stream, stream_methods::TABLE);
